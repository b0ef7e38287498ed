"""What one machine has, as plain data: versions, clock, folder, limits, GPUs.

``NodeProbe`` is sent to every node by value, so this file needs Python's library alone: a node whose icd is missing,
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
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, TypedDict

PACKAGES = ("torch", "torchvision", "ray", "optuna", "mlflow")
_SHARED_MEMORY = Path("/dev/shm")
_GPU_S = 90.0
_MOST_FILES = 20_000


class FolderFacts(TypedDict):
    """A folder where something was tried; ``error`` is empty where all of it went well."""

    path: str
    error: str
    free_gb: float | None
    milliseconds: float | None


class DataFacts(TypedDict):
    """A folder of data sets: how much is in it, and a digest of names and sizes; contents are not read."""

    path: str
    error: str
    files: int
    digest: str


class NodeFacts(TypedDict):
    """What one machine says of itself."""

    host: str
    python: str
    versions: dict[str, str]
    source: str
    files_limit: int
    cores: int
    shm_gb: float | None
    gpus: dict[str, Any]


def node_facts(*, gpus: bool) -> NodeFacts:
    """Look at this machine.

    Args:
        gpus: Whether to look at GPUs, which takes seconds; only where there are any.
    """
    versions, source = {name: _version(name) for name in PACKAGES}, ""
    try:
        versions["icd"], source = _own_version()
    except Exception as error:  # whatever an icd that is half there raises
        versions["icd"] = f"cannot be imported: {' '.join(str(error).split())[:120]}"
    return NodeFacts(
        host=platform.node(),
        python=platform.python_version(),
        versions=versions,
        source=source,
        files_limit=resource.getrlimit(resource.RLIMIT_NOFILE)[0],
        cores=_cores(),
        shm_gb=shutil.disk_usage(_SHARED_MEMORY).total / 1e9 if _SHARED_MEMORY.is_dir() else None,
        gpus=gpu_facts() if gpus else {},
    )


def _cores() -> int:
    try:
        from icd.search.core.machine import usable_cpus

        return usable_cpus()
    except Exception:  # another icd, or one that is half there
        return os.cpu_count() or 1


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


def try_folder(folder: Path, name: str) -> FolderFacts:
    """Write a file aside, sync it, move it into place and read it; it stays there for others to see."""
    facts = FolderFacts(path=str(folder), error="", free_gb=None, milliseconds=None)
    try:
        facts["free_gb"] = shutil.disk_usage(folder).free / 1e9
        started, aside = time.perf_counter(), folder / f"{name}.aside"
        with aside.open("w") as file:
            file.write(name)
            file.flush()
            os.fsync(file.fileno())
        aside.replace(folder / name)
        if (folder / name).read_text() != name:
            facts["error"] = "what was written is read back otherwise"
        facts["milliseconds"] = (time.perf_counter() - started) * 1000
    except OSError as error:
        facts["error"] = error.strerror or str(error)
    return facts


def look_at_data(folder: str) -> DataFacts:
    """List a folder of data sets, of many files the first ones only."""
    root, facts = Path(folder), DataFacts(path=folder, error="", files=0, digest="")
    if not root.is_dir():
        return DataFacts(**{**facts, "error": "there is no such folder"})
    digest = hashlib.sha256()
    try:
        for path in _files(root):
            digest.update(f"{path.relative_to(root)}\0{path.stat().st_size}\n".encode())
            facts["files"] += 1
    except OSError as error:
        facts["error"] = error.strerror or str(error)
    facts["digest"] = digest.hexdigest()[:12]
    return facts


def _files(root: Path) -> list[Path]:
    found = []
    for above, folders, names in os.walk(root):
        folders.sort()
        found += [Path(above, name) for name in sorted(names)]
        if len(found) >= _MOST_FILES:
            break
    return found[:_MOST_FILES]


def gpu_facts() -> dict[str, Any]:
    """Ask the driver and torch about the GPUs, in a process of its own: a sick GPU may hang whoever asks."""
    words = [sys.executable, "-m", "icd.doctor.gpu_health"]
    try:
        done = subprocess.run(
            words, env=_raylet_environment(), capture_output=True, text=True, timeout=_GPU_S, check=False
        )
        found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    except subprocess.TimeoutExpired:
        return {"error": f"no answer for {_GPU_S:.0f} s"}
    except (OSError, ValueError, IndexError):
        return {"error": f"the check ended with code {done.returncode}: {' '.join(done.stderr.split())[-200:]}"}
    return found


def _raylet_environment() -> dict[str, str]:
    """Give our environment with the GPUs of the node: Ray hides all of them from a task that asks for none."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    above = {}
    with contextlib.suppress(OSError):
        text = Path(f"/proc/{os.getppid()}/environ").read_bytes().decode(errors="replace")
        above = dict(line.split("=", 1) for line in text.split("\0") if "=" in line)
    environment.pop("CUDA_VISIBLE_DEVICES", None)
    if "CUDA_VISIBLE_DEVICES" in above:
        environment["CUDA_VISIBLE_DEVICES"] = above["CUDA_VISIBLE_DEVICES"]
    return environment


class NodeProbe:
    """On a node: answers one question after the other."""

    def facts(self, gpus: bool) -> NodeFacts:
        """Look at this machine."""
        return node_facts(gpus=gpus)

    def clock(self) -> float:
        """Say what time it is here, in seconds."""
        return time.time()

    def folder(self, probe: str, word: str, name: str) -> FolderFacts:
        """Read what the driver wrote into a folder, then write."""
        facts = FolderFacts(path=probe, error="", free_gb=None, milliseconds=None)
        try:
            if (Path(probe) / "driver").read_text() != word:
                return FolderFacts(**{**facts, "error": "another folder has that name here"})
        except OSError as error:
            return FolderFacts(**{**facts, "error": error.strerror or str(error)})
        return try_folder(Path(probe), name)

    def data(self, folder: str) -> DataFacts:
        """Look at a folder of data sets."""
        return look_at_data(folder)
