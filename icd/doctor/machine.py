"""What this machine has, and what to do about what it lacks."""

import importlib
import importlib.metadata
import os
import platform
import shutil
import time
from pathlib import Path
from typing import NamedTuple

from icd.doctor.cluster import check_services
from icd.doctor.diagnosis import judge_gpus, judge_limits, numbers
from icd.doctor.min_versions import FLOORS
from icd.doctor.node_facts import node_facts
from icd.errors import SetupError
from icd.search.core.machine import usable_cpus
from icd.storage.bucket import Bucket, bucket_of

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


def check_machine(root: Path) -> list[Finding]:
    """Look at versions, imports, devices, limits, services, and whether the root can be written."""
    found = [Finding("python", True, f"{platform.python_version()} on {platform.platform()}")]
    found += [_package(module) for module in _NEEDED]
    return [*found, _pair(), *_devices(), _folder(root), *_limits_and_services(root)]


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
