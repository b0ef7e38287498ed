"""Which GPUs this process may use, and why torch cannot use one that was asked for: never the CPU in its place.

Nothing here starts CUDA in the driver: it is asked for names only, and torch is imported where training happens.
"""

import os
import platform
import re
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from icd.errors import SetupError

if TYPE_CHECKING:
    import torch

VISIBLE = "CUDA_VISIBLE_DEVICES"
_PROC = Path("/proc/driver/nvidia/gpus")  # not there under WSL2, and of whole GPUs even where they are divided (MIG)
_SMI_S = 20.0
_NAME = re.compile(r"\d+|GPU-[0-9a-fA-F-]+|MIG-\S+")
_LISTED = re.compile(r"^(GPU|\s+MIG) .*\(UUID: ((?:GPU|MIG)-[^)]+)\)")
_ON_THE_CPU = "or ask for none (resources.gpus_per_trial: 0, --device cpu)"


def named_gpus(visible: str) -> list[str]:
    """Read ``CUDA_VISIBLE_DEVICES`` as CUDA does: what is no GPU ends the list, such as -1, none and NoDevFiles."""
    names: list[str] = []
    for name in (word.strip() for word in visible.split(",")):
        if not _NAME.fullmatch(name):
            break
        names.append(name)
    return names


def visible_gpus() -> list[str]:
    """Name the GPUs of this machine that may be used, as ``CUDA_VISIBLE_DEVICES`` takes them."""
    if VISIBLE in os.environ:
        return named_gpus(os.environ[VISIBLE])
    try:
        done = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, timeout=_SMI_S, check=False)
    except (OSError, subprocess.TimeoutExpired):
        done = None
    if done is not None and done.returncode == 0:
        return listed_gpus(done.stdout)
    return [str(index) for index, _ in enumerate(sorted(_PROC.glob("*")))]


def listed_gpus(text: str) -> list[str]:
    """Read what ``nvidia-smi -L`` prints: the instances of a GPU that is divided (MIG), and whole GPUs."""
    found: list[list[str]] = []
    for line in text.splitlines():
        match = _LISTED.match(line)
        if match and match[1] == "GPU":
            found.append([match[2]])
        elif match and found:
            found[-1].append(match[2])
    return [name for whole, *instances in found for name in (instances or [whole])]


def training_device() -> "torch.device":
    """Give the device of this worker: a GPU where ``CUDA_VISIBLE_DEVICES`` names one, else the CPU.

    Raises:
        SetupError: If a GPU is named and torch cannot use it.
    """
    import torch

    if torch.cuda.is_available():
        return torch.device("cuda")
    if names := named_gpus(os.environ.get(VISIBLE, "")):
        raise SetupError(f"a GPU was asked for ({VISIBLE}={','.join(names)}), but {why_unusable()}")
    return torch.device("cpu")


def limit_memory(device: "torch.device", share: float) -> None:
    """Let this process have its share of a GPU's memory and no more: a trial cannot take that of its neighbours."""
    import torch

    if device.type == "cuda":
        torch.cuda.set_per_process_memory_fraction(share)


def why_unusable() -> str:
    """Say why torch can use no GPU here, and what to do."""
    import torch

    built = f"torch {torch.__version__}"
    if torch.version.cuda is None:
        return f"{built} is a build for CPUs alone: install its build for CUDA, {_ON_THE_CPU}"
    try:
        torch.cuda.init()
        said = "it finds no GPU"
    except (RuntimeError, AssertionError) as error:
        said = " ".join(str(error).split())[:200]
    return f"{built} for CUDA {torch.version.cuda} cannot use it: {said}; {_advice(said)}, {_ON_THE_CPU}"


def _advice(said: str) -> str:
    """Say what to do about what torch says."""
    if "too old" in said:
        return "update the driver, or install a torch for an older CUDA"
    if "microsoft" in platform.release().casefold():
        return "under WSL2 the driver is that of Windows: install it there and none here"
    if "no NVIDIA driver" in said:
        return "install NVIDIA's driver (a container needs --gpus)"
    return f"see whether nvidia-smi -L lists it (of MIG the instances), and whether {VISIBLE} names one of these"


def no_silent_cpu(gpus: Sequence[str]) -> str:
    """Say that this machine has GPUs that nobody asked for by name and torch cannot use; empty where it has none."""
    return f"{len(gpus)} GPUs are here, but {why_unusable()}" if gpus else ""
