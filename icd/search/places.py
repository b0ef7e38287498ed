"""How a machine is divided among trials at a time."""

import os
from collections.abc import Sequence
from pathlib import Path

from icd.config.sweep import Resources
from icd.errors import SetupError


def visible_gpus() -> list[str]:
    """Name the GPUs of this machine that may be used, without starting CUDA here."""
    if "CUDA_VISIBLE_DEVICES" in os.environ:
        return [name for name in os.environ["CUDA_VISIBLE_DEVICES"].split(",") if name]
    return [str(place) for place, _ in enumerate(sorted(Path("/proc/driver/nvidia/gpus").glob("*")))]


def places_for(resources: Resources, num_cpus: int, gpus: Sequence[str]) -> list[str]:
    """Divide the machine: for every trial at a time the GPUs it may see, empty for none.

    Raises:
        SetupError: If not one trial fits.
    """
    wanted = resources.gpus_of_a_trial(bool(gpus))
    fitting = int(num_cpus / resources.cpus_per_trial)
    if wanted == 0:
        processes = [""] * fitting
    elif wanted < 1:
        processes = [gpu for _ in range(int(1 / wanted + 1e-9)) for gpu in gpus]
    else:
        size = int(wanted)
        groups = zip(*(gpus[start::size] for start in range(size)), strict=False)
        processes = [",".join(group) for group in groups]
    places = processes[:fitting][: resources.max_concurrent]
    if not places:
        raise SetupError(
            f"no trial fits: it needs {resources.cpus_per_trial:g} CPUs and {wanted:g} GPUs, "
            f"but this machine has {num_cpus} and {len(gpus)}; change resources"
        )
    return places
