"""Torch's global generators: initialisers, dropout and drop path know no other."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from icd.data import counter

_ONE_AT_A_TIME = threading.RLock()  # the generator is one for all threads


@contextmanager
def initial_weights(seed: int | None = None) -> Iterator[None]:
    """Draw weights while no other thread does.

    Args:
        seed: Seeds the generator, which is put back afterwards. None draws on from where it is.
    """
    with _ONE_AT_A_TIME:
        if seed is None:
            yield
            return
        with torch.random.fork_rng(devices=[]):
            # torch.manual_seed would also seed the generators of all accelerators.
            torch.default_generator.manual_seed(seed)
            yield


@contextmanager
def generators_kept(device: torch.device) -> Iterator[None]:
    """Put the generators that a network on a device draws from back at the end."""
    fork = torch.random.fork_rng([device] if device.type == "cuda" else [])
    with _ONE_AT_A_TIME:
        fork.__enter__()
    try:
        yield
    finally:
        with _ONE_AT_A_TIME:
            fork.__exit__(None, None, None)


def seed_step(device: torch.device, seed: int, epoch: int, step: int) -> None:
    """Make what a network draws in a step follow from these numbers alone, whatever was drawn before it.

    The generators are those of all threads: of two trainings at once in a process, none may draw.
    """
    word = int(counter.bits(counter.NETWORK, seed, epoch, step)[0])
    with _ONE_AT_A_TIME:
        torch.default_generator.manual_seed(word)
        if device.type == "cuda":
            with torch.cuda.device(device):
                torch.cuda.manual_seed(word)
