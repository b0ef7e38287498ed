"""What this machine has, and what to do about what it lacks."""

import importlib
import importlib.metadata
import os
import platform
import shutil
import time
from pathlib import Path

from icd.doctor.diagnosis import Finding, judge_gpus, judge_limits, numbers
from icd.doctor.min_versions import FLOORS
from icd.doctor.node_facts import NodeFacts, node_facts
from icd.doctor.services import check_cache, check_services
from icd.errors import SetupError
from icd.machine import usable_cpus
from icd.storage.bucket import Bucket, bucket_of

HERE = "here"
_NEEDED = (
    *("torch", "torchvision", "numpy", "pydantic", "yaml", "PIL", "sklearn", "click", "rich", "safetensors"),
    *("ray", "optuna", "mlflow"),
)
_DISTRIBUTIONS = {"yaml": "pyyaml", "PIL": "pillow", "sklearn": "scikit-learn"}
_ROOM_BYTES = 1 << 30


def check_machine(root: Path) -> list[Finding]:
    """Look at versions, imports, devices, limits, services, and whether the root can be written."""
    found = [Finding("python", HERE, "pass", f"{platform.python_version()} on {platform.platform()}")]
    found += [_package(module) for module in _NEEDED]
    found += [_pair(), _cpu(), _folder(root), check_cache(root, HERE)]
    facts = node_facts(shutil.which("nvidia-smi") is not None)
    return [*found, judge_limits(HERE, facts), *gpus_here(facts), *check_services(root)]


def gpus_here(facts: NodeFacts) -> list[Finding]:
    """Judge the GPUs that torch sees, or the driver's where it sees none and nobody hid them."""
    given, hidden = facts["gpus"], os.environ.get("CUDA_VISIBLE_DEVICES") in ("", "-1")
    driver = 0 if hidden else len(given.get("driver", ()))
    expected = len(given.get("torch", ())) or driver or bool(given.get("error"))
    return list(judge_gpus(HERE, float(expected), facts))


def _package(module: str) -> Finding:
    name = _DISTRIBUTIONS.get(module, module)
    started = time.perf_counter()
    try:
        importlib.import_module(module)
        version = importlib.metadata.version(name)
    except Exception as error:  # a broken package may raise anything at import
        return Finding(name, HERE, "fail", f"cannot be imported: {_short(error)}", "run 'make setup'")
    floor = FLOORS.get(name)
    if floor is not None and numbers(version) < numbers(floor.version):
        return Finding(name, HERE, "fail", f"{version} is older than {floor.version} ({floor.why})", "upgrade it")
    return Finding(name, HERE, "pass", f"{version}, imported in {time.perf_counter() - started:.1f} s")


def _pair() -> Finding:
    """A torchvision built for another torch imports only in part, or crashes in its first operator."""
    try:
        import torch
        from torchvision.ops import nms

        nms(torch.zeros(1, 4), torch.zeros(1), 0.5)
    except Exception as error:  # the mismatch shows as ImportError, RuntimeError or OSError
        text = f"torch and torchvision do not fit: {_short(error)}"
        return Finding("torch pair", HERE, "fail", text, "install both together")
    return Finding("torch pair", HERE, "pass", "torchvision's operators run with this torch")


def _cpu() -> Finding:
    import torch

    return Finding("cpu", HERE, "pass", f"{usable_cpus()} cores, torch uses {torch.get_num_threads()} threads")


def _folder(root: Path) -> Finding:
    """Try the nearest existing folder, so that looking makes nothing; a bucket is written to."""
    bucket = bucket_of(root)
    if bucket is not None:
        try:
            Bucket(bucket.url, patience_s=0).check()
        except SetupError as error:
            return Finding("root", HERE, "fail", str(error))
        return Finding("root", HERE, "pass", f"{bucket.url} can be written and read; copies in {root}")
    existing = next(folder for folder in (root, *root.absolute().parents) if folder.exists())
    if not os.access(existing, os.W_OK) or not existing.is_dir():
        return Finding("root", HERE, "fail", f"{root} cannot be written", "choose --root or ICD_ROOT")
    free = shutil.disk_usage(existing).free
    text = f"{root} can be written, {free / 1e9:.1f} GB free"
    if free < _ROOM_BYTES:
        return Finding("root", HERE, "fail", text, "make room: checkpoints and teacher caches need more than 1 GB")
    return Finding("root", HERE, "pass", text)


def _short(error: Exception) -> str:
    return " ".join(str(error).split())[:120]
