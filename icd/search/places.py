"""How a machine is divided among trials at a time."""

from collections.abc import Sequence

from icd.config.sweep import Resources
from icd.errors import SetupError


def places_for(resources: Resources, num_cpus: int, gpus: Sequence[str]) -> list[str]:
    """Divide the machine: for every trial at a time the GPU it may see, empty for none.

    Trials of one process follow each other and name the same GPU, which the process gets once; the last process may
    have fewer, where ``max_concurrent`` says so.

    Raises:
        SetupError: If not one process fits.
    """
    wanted, pack = resources.gpus_of_a_process(bool(gpus)), resources.pack
    fitting = int(num_cpus / (pack * resources.cpus_per_trial))
    processes = [gpu for _ in range(int(1 / wanted + 1e-9)) for gpu in gpus] if wanted else [""] * fitting
    places = [gpu for gpu in processes[:fitting] for _ in range(pack)][: resources.max_concurrent]
    if not places:
        what = "trial" if pack == 1 else f"process of {pack} trials"
        raise SetupError(
            f"no {what} fits: it needs {pack * resources.cpus_per_trial:g} CPUs and {wanted:g} GPUs, "
            f"but this machine has {num_cpus} and {len(gpus)}; change resources"
        )
    return places
