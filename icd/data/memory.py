"""Whether images fit in memory, beside the other trials of this machine."""

from contextlib import suppress
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
    import psutil  # here, because bench/gpu_step.py runs with torch and NumPy alone

    free = int(psutil.virtual_memory().available)
    with suppress(OSError, ValueError):  # no such file, or "max"
        free = min(free, int((_CGROUP / "memory.max").read_text()) - int((_CGROUP / "memory.current").read_text()))
    return max(free, 0)
