"""What one machine has, as plain data: versions, limits, GPUs, data sets.

``node_facts`` is sent to every node by value, so this file needs Python's library alone: a node whose icd is missing,
broken or another one can still say so.
"""

import contextlib
import hashlib
import importlib.metadata
import importlib.util
import json
import os
import platform
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, TypedDict

PACKAGES = ("torch", "torchvision", "ray", "optuna", "mlflow")
_PROCESSES = Path("/proc")
_RAYLET, _VISIBLE = "raylet", "CUDA_VISIBLE_DEVICES"
_GPU_S = 90.0


class NodeFacts(TypedDict):
    """What one machine says of itself.

    ``versions`` are those of Python, icd and PACKAGES, ``source`` is a digest of icd's own; ``data_error`` says why
    data sets are not where they should be.
    """

    versions: dict[str, str]
    source: str
    files_limit: int
    gpus: dict[str, Any]
    data_error: str


def node_facts(gpus: bool, data_root: str = "") -> NodeFacts:
    """Look at this machine.

    Args:
        gpus: Whether to look at GPUs, which takes seconds; only where there are any.
        data_root: Folder of data sets that should be here; empty for none.
    """
    versions, source = {"Python": platform.python_version(), **{name: _version(name) for name in PACKAGES}}, ""
    try:
        versions["icd"], source = _own_version()
    except Exception as error:  # whatever an icd that is half there raises
        versions["icd"] = f"cannot be imported: {' '.join(str(error).split())[:120]}"
    return NodeFacts(
        versions=versions,
        source=source,
        files_limit=resource.getrlimit(resource.RLIMIT_NOFILE)[0],
        gpus=_gpu_facts() if gpus else {},
        data_error=f"{data_root}: there is no such folder" if data_root and not Path(data_root).is_dir() else "",
    )


def now() -> float:
    """Say what time it is here, in seconds since 1970."""
    return time.time()


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "missing"


def _own_version() -> tuple[str, str]:
    """Give icd's version and a digest of its source: two checkouts may have one version."""
    import icd

    folder = Path(str(icd.__file__)).parent
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*.py")):
        digest.update(f"{path.relative_to(folder)}\0".encode() + path.read_bytes())
    return str(icd.__version__), digest.hexdigest()[:12]


def _gpu_facts() -> dict[str, Any]:
    """Ask the driver and torch about the GPUs, in a process of its own: a sick GPU may hang whoever asks."""
    words = [sys.executable, "-m", "icd.doctor.gpu_health"]
    try:
        done = subprocess.run(
            words, env=_raylet_environment(), capture_output=True, text=True, timeout=_GPU_S, check=False
        )
    except subprocess.TimeoutExpired:
        return {"error": f"no answer for {_GPU_S:.0f} s"}
    try:
        found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    except (ValueError, IndexError):
        return {"error": f"the check ended with code {done.returncode}: {' '.join(done.stderr.split())[-200:]}"}
    return found


def _raylet_environment() -> dict[str, str]:
    """Give our environment; below a raylet with its GPUs: Ray 2.54 hides them from a task that asks for none."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    with contextlib.suppress(OSError):
        parent = _PROCESSES / str(os.getppid())
        text = (parent / "environ").read_bytes().decode(errors="replace")
        above = dict(line.split("=", 1) for line in text.split("\0") if "=" in line)
        if (parent / "comm").read_text().strip() == _RAYLET:
            environment.pop(_VISIBLE, None)
            environment |= {name: value for name, value in above.items() if name == _VISIBLE}
    return environment
