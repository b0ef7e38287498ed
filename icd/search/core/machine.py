"""How much of this machine is ours: its cores and its memory, less what a control group (a container) leaves of them.

Control groups of both versions are read; of nested ones the tightest counts.
"""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

_CGROUPS = Path("/sys/fs/cgroup")
_OWN = Path("/proc/self/cgroup")
_MEMINFO = Path("/proc/meminfo")
_UNLIMITED = 1 << 60  # version 1 writes a larger number where there is no limit
# By version: the limit, what is in use, and how much of that is a cache of files that can be dropped.
_MEMORY_FILES = {
    1: ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
    2: ("memory.max", "memory.current", "inactive_file"),
}


def usable_cpus() -> int:
    """Count the cores that may be used at once: the smallest of machine, affinity and CPU quota, but at least 1.

    A part of a core counts for nothing: on 1.5 cores a second trial would take turns with the first.
    """
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, int(min([allowed, *_quotas()]) + 1e-9))


def used_memory() -> int:
    """Count the bytes in use, as Ray's memory monitor does: those of the control group, where that has a limit."""
    limited = [used for used in (_use_of_limited(*group) for group in _groups("memory")) if used is not None]
    if limited:
        return limited[-1]  # the innermost
    lines = dict(line.split(":", 1) for line in _MEMINFO.read_text().splitlines() if ":" in line)
    total, available = (int(lines[name].split()[0]) << 10 for name in ("MemTotal", "MemAvailable"))
    return total - available


def _quotas() -> Iterator[float]:
    """Give the cores that each of our control groups allows, of those that have a limit."""
    for folder, version in _groups("cpu"):
        with contextlib.suppress(OSError, ValueError, ZeroDivisionError):  # "max" or -1: no limit
            if version == 2:
                quota, period = map(float, (folder / "cpu.max").read_text().split())
            else:
                quota, period = (float((folder / f"cpu.cfs_{name}_us").read_text()) for name in ("quota", "period"))
            if quota > 0:
                yield quota / period


def _use_of_limited(folder: Path, version: int) -> int | None:
    """Read what a control group uses, but for the file cache; None where it has no limit."""
    limit, use, cache = _MEMORY_FILES[version]
    try:
        if int((folder / limit).read_text()) >= _UNLIMITED:
            return None
        used = int((folder / use).read_text())
        stat = dict(line.split() for line in (folder / "memory.stat").read_text().splitlines())
        return used - int(stat.get(cache, 0))
    except (OSError, ValueError):  # also "max": no limit
        return None


def _groups(controller: str) -> Iterator[tuple[Path, int]]:
    """Give the folders of our control groups, the outermost first, each with its version."""
    with contextlib.suppress(OSError):
        for line in _OWN.read_text().splitlines():
            _, controllers, path = line.split(":", 2)
            if controllers and controller not in controllers.split(","):
                continue
            top, version = (_CGROUPS / controller, 1) if controllers else (_CGROUPS, 2)
            # A container may see its own group as the outermost, whatever the path says.
            for inner in ["", *(str(parent) for parent in reversed(Path(path).parents)), path]:
                folder = top / inner.lstrip("/")
                if folder.is_dir():
                    yield folder, version
