"""``icd doctor``: what this machine has, and what to do about what it lacks."""

import importlib
import importlib.metadata
import os
import platform
import shutil
import time
from pathlib import Path
from typing import NamedTuple

import click

from icd.cli.cluster_check import check_cluster, check_services
from icd.cli.diagnosis import judge_gpus, judge_limits, numbers
from icd.cli.floors import FLOORS
from icd.cli.main import write_json
from icd.cli.root import ROOT
from icd.cli.show import JSON
from icd.errors import SetupError
from icd.search import default_root
from icd.search.machine import usable_cpus
from icd.search.node_facts import node_facts
from icd.trial.bucket import Bucket, bucket_of

_NEEDED = (
    *("torch", "torchvision", "numpy", "pydantic", "yaml", "PIL", "sklearn", "click", "rich", "safetensors"),
    *("ray", "optuna", "mlflow"),
)
_DISTRIBUTIONS = {"yaml": "pyyaml", "PIL": "pillow", "sklearn": "scikit-learn"}
_ROOM_BYTES = 1 << 30


class Finding(NamedTuple):
    """One thing looked at."""

    what: str
    ok: bool
    text: str


@click.command()
@JSON
@ROOT
@click.option("--cluster", is_flag=True, help="Check a Ray cluster: every node, its clock, folder, GPUs, network.")
@click.option("--address", default="auto", show_default=True, help="Of the cluster: auto, or HOST:PORT.")
@click.option("--data-root", type=click.Path(path_type=Path), help="Folder of data sets [ICD_DATA].")
@click.option(
    "--timeout", type=click.FloatRange(min=1), default=120.0, show_default=True, help="Seconds to wait for a node."
)
def doctor(
    as_json: bool, root: Path | None, cluster: bool, address: str, data_root: Path | None, timeout: float
) -> None:
    """Check versions, imports, devices and write permission; exits with 3 if something needs doing."""
    where = root or default_root()
    if cluster:
        data = data_root or os.environ.get("ICD_DATA") or None
        check_cluster(address, where, Path(data) if data else None, timeout_s=timeout, as_json=as_json)
        return
    findings = [Finding("python", True, f"{platform.python_version()} on {platform.platform()}")]
    findings += [_package(module) for module in _NEEDED]
    findings += [_pair(), *_devices(), _folder(where), *_limits_and_services(where)]
    if as_json:
        write_json([finding._asdict() for finding in findings])
    else:
        for finding in findings:
            click.echo(f"{'ok  ' if finding.ok else 'FAIL'} {finding.what:13s} {finding.text}")
    bad = [finding.what for finding in findings if not finding.ok]
    if bad:
        raise SetupError(f"needs attention: {', '.join(bad)}")


def _limits_and_services(root: Path) -> list[Finding]:
    """Judge what a node of a cluster is judged by, as far as one machine has it; a warning is no fault here."""
    facts = node_facts(gpus=shutil.which("nvidia-smi") is not None)
    gpus = len(facts["gpus"].get("torch", ())) or bool(facts["gpus"].get("error"))
    found = [*judge_limits("here", facts, 0.0), *judge_gpus("here", float(gpus), facts), *check_services(root)]
    return [
        Finding(item.check, item.level != "fail", f"{item.text}; {item.advice}" if item.advice else item.text)
        for item in found
    ]


def _package(module: str) -> Finding:
    name = _DISTRIBUTIONS.get(module, module)
    started = time.perf_counter()
    try:
        importlib.import_module(module)
        version = importlib.metadata.version(name)
    except Exception as error:  # a broken package may raise anything at import
        return Finding(name, False, f"cannot be imported: {' '.join(str(error).split())[:120]}; run 'make setup'")
    floor = FLOORS.get(name)
    if floor is not None and numbers(version) < numbers(floor.version):
        return Finding(name, False, f"{version} is older than {floor.version} ({floor.why}); upgrade it")
    return Finding(name, True, f"{version}, imported in {time.perf_counter() - started:.1f} s")


def _pair() -> Finding:
    """A torchvision built for another torch imports only in part, or crashes in its first operator."""
    try:
        import torch
        from torchvision.ops import nms

        nms(torch.zeros(1, 4), torch.zeros(1), 0.5)
    except Exception as error:  # the mismatch shows as ImportError, RuntimeError or OSError
        text = " ".join(str(error).split())[:120]
        return Finding("torch pair", False, f"torch and torchvision do not fit: {text}; install both together")
    return Finding("torch pair", True, "torchvision's operators run with this torch")


def _devices() -> list[Finding]:
    import torch

    found = [Finding("cpu", True, f"{usable_cpus()} cores, torch uses {torch.get_num_threads()} threads")]
    if not torch.cuda.is_available():
        return [*found, Finding("cuda", True, "none: training runs on the CPU")]
    for index in range(torch.cuda.device_count()):
        memory_gb = torch.cuda.get_device_properties(index).total_memory / 1e9
        text = f"{torch.cuda.get_device_name(index)}, {memory_gb:.0f} GB"
        try:
            torch.ones(8, device=f"cuda:{index}").sum().item()
        except RuntimeError as error:
            found.append(Finding(f"cuda:{index}", False, f"{text}: {' '.join(str(error).split())[:120]}"))
        else:
            found.append(Finding(f"cuda:{index}", True, text))
    return found


def _folder(root: Path) -> Finding:
    """Try the nearest existing folder, so that looking makes nothing; a bucket is written to."""
    bucket = bucket_of(root)
    if bucket is not None:
        try:
            Bucket(bucket.url, patience_s=0).check()
        except SetupError as error:
            return Finding("root", False, str(error))
        return Finding("root", True, f"{bucket.url} can be written and read; copies in {root}")
    existing = next(folder for folder in (root, *root.absolute().parents) if folder.exists())
    if not os.access(existing, os.W_OK) or not existing.is_dir():
        return Finding("root", False, f"{root} cannot be written; choose --root or ICD_ROOT")
    free = shutil.disk_usage(existing).free
    text = f"{root} can be written, {free / 1e9:.1f} GB free"
    return Finding("root", free >= _ROOM_BYTES, text if free >= _ROOM_BYTES else f"{text}: less than 1 GB")
