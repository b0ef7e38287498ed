"""How a machine is divided among trials at a time."""

from collections.abc import Sequence

from icd.config.sweep import Resources
from icd.errors import SetupError


def partition_devices(resources: Resources, num_cpus: int, gpus: Sequence[str]) -> list[str]:
    """Divide the machine: for every trial at a time the GPU it may see, empty for none.

    Raises:
        SetupError: If not one trial fits.
    """
    wanted = resources.gpus_of_a_trial(bool(gpus))
    fitting = int(num_cpus / resources.cpus_per_trial)
    shares = [gpu for _ in range(int(1 / wanted + 1e-9)) for gpu in gpus] if wanted else [""] * fitting
    places = shares[:fitting][: resources.max_concurrent]
    if not places:
        raise SetupError(
            f"no trial fits: it needs {resources.cpus_per_trial:g} CPUs and {wanted:g} GPUs, "
            f"but this machine has {num_cpus} and {len(gpus)}; change resources"
        )
    return places
