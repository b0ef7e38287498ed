"""How much of this machine is ours: what control groups (a container, a job) leave of its cores and its memory.

Control groups of both versions are read; of nested ones the tightest counts.
"""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

_CGROUPS = Path("/sys/fs/cgroup")
_OWN = Path("/proc/self/cgroup")


def usable_cpus() -> int:
    """Count the cores that may be used at once: the smallest of machine, affinity and CPU quota, but at least 1.

    A part of a core counts for nothing: on 1.5 cores a second trial would take turns with the first.
    """
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quotas = (quota for folder in _groups("cpu") for quota in _quota(folder))
    return max(1, int(min([allowed, *quotas]) + 1e-9))


def free_memory() -> int:
    """Count the bytes of main memory that can be had; what the kernel keeps of files it has read gives way."""
    import psutil  # here, because bench/gpu_step.py runs with torch and NumPy alone

    rooms = (room for folder in _groups("memory") for room in _room(folder))
    return max(0, min([int(psutil.virtual_memory().available), *rooms]))


def oom_kills() -> int:
    """Count the processes of our own control group that the kernel has killed for memory; 0 where it does not tell."""
    counts = [count for folder in _groups("memory") for count in _kills(folder)]
    return counts[-1] if counts else 0


def _groups(controller: str) -> Iterator[Path]:
    """Give the folders of our control groups, the outermost first; not all of them need be there."""
    with contextlib.suppress(OSError):
        for line in _OWN.read_text().splitlines():
            _, controllers, path = line.split(":", 2)
            if not controllers or controller in controllers.split(","):
                top = _CGROUPS / (controller if controllers else "")
                # A container may see its own group as the outermost, whatever the path says.
                for inner in ["", *(str(parent) for parent in reversed(Path(path).parents)), path]:
                    yield top / inner.lstrip("/")


def _quota(folder: Path) -> Iterator[float]:
    with contextlib.suppress(OSError, ValueError, ZeroDivisionError):  # no such group; "max" or -1: no limit
        if (folder / "cpu.max").exists():
            quota, period = map(float, (folder / "cpu.max").read_text().split())
        else:
            quota, period = (float((folder / f"cpu.cfs_{name}_us").read_text()) for name in ("quota", "period"))
        if quota > 0:
            yield quota / period


def _room(folder: Path) -> Iterator[int]:
    with contextlib.suppress(OSError, ValueError, KeyError):  # no such group; "max": no limit
        second = (folder / "memory.max").exists()
        names = ("max", "current") if second else ("limit_in_bytes", "usage_in_bytes")
        most, used = (int((folder / f"memory.{name}").read_text()) for name in names)
        yield most - used + _counts(folder / "memory.stat")["inactive_file" if second else "total_inactive_file"]


def _kills(folder: Path) -> Iterator[int]:
    for name in ("memory.events", "memory.oom_control"):
        with contextlib.suppress(OSError, ValueError, KeyError):
            yield _counts(folder / name)["oom_kill"]


def _counts(file: Path) -> dict[str, int]:
    rows = (line.split() for line in file.read_text().splitlines())
    return {name: int(count) for name, count in rows}
