"""How many cores of this machine are ours: those that control groups (a container) leave of them.

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
    return max(1, int(min([allowed, *_quotas()]) + 1e-9))


def _quotas() -> Iterator[float]:
    """Give the cores that each of our control groups allows, the outermost first, of those that have a limit."""
    with contextlib.suppress(OSError):
        for line in _OWN.read_text().splitlines():
            _, controllers, path = line.split(":", 2)
            if not controllers or "cpu" in controllers.split(","):
                top = _CGROUPS / ("cpu" if controllers else "")
                # A container may see its own group as the outermost, whatever the path says.
                for inner in ["", *(str(parent) for parent in reversed(Path(path).parents)), path]:
                    yield from _quota(top / inner.lstrip("/"))


def _quota(folder: Path) -> Iterator[float]:
    with contextlib.suppress(OSError, ValueError, ZeroDivisionError):  # no such group; "max" or -1: no limit
        if (folder / "cpu.max").exists():
            quota, period = map(float, (folder / "cpu.max").read_text().split())
        else:
            quota, period = (float((folder / f"cpu.cfs_{name}_us").read_text()) for name in ("quota", "period"))
        if quota > 0:
            yield quota / period
