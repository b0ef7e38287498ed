"""Whether images fit in memory, beside the other trials of this machine."""

import os
from pathlib import Path

import torch

_LIMIT = 4 * 10**9  # bytes; CUB-200's training images take 1.2e9
_SHARE = 4  # at most one part in four of what is free, because trials share a machine
_CGROUP = Path("/sys/fs/cgroup")


def fits(num_bytes: int, device: torch.device) -> bool:
    """Whether so much may be kept for a process, on a device."""
    free = torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else available()
    return num_bytes <= min(_LIMIT, free // _SHARE)


def available() -> int:
    """Bytes of main memory that can be had: the machine's, or the container's where that is less."""
    free = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    try:
        meminfo = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
        free = 1024 * int(meminfo["MemAvailable"].split()[0])
        limit = int((_CGROUP / "memory.max").read_text())  # "max" where there is none
        free = min(free, limit - int((_CGROUP / "memory.current").read_text()))
    except (OSError, ValueError, KeyError):
        pass
    return max(free, 0)
