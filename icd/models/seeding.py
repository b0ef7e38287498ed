"""Initial weights: drawn from torch's global generator, because torch's own initialisers know no other."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import torch

ONE_AT_A_TIME = threading.RLock()  # the generator is one for all threads


@contextmanager
def initial_weights(seed: int | None = None) -> Iterator[None]:
    """Draw weights while no other thread does.

    Args:
        seed: Seeds the generator of the CPU, where weights are made then; it is put back afterwards. None draws on from
            where it is.
    """
    with ONE_AT_A_TIME:
        if seed is None:
            yield
            return
        with torch.random.fork_rng(devices=[]), torch.device("cpu"):
            # torch.manual_seed would also seed the generators of all accelerators.
            torch.default_generator.manual_seed(seed)
            yield
