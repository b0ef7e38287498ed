"""What a number was computed with: versions and the name of the device."""

import platform

import numpy as np
import torch

from icd import __version__


def versions() -> dict[str, str]:
    """Versions of what decides a number."""
    return {
        "icd": __version__,
        "python": platform.python_version(),
        "torch": str(torch.__version__),
        "numpy": np.__version__,
    }


def device_name(device: torch.device) -> str:
    """Name of the device, for the record."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{platform.machine()} CPU, {torch.get_num_threads()} threads"
