"""Torch's global generators: initialisers, dropout and drop path know no other."""

import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager

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


def generators_kept(device: torch.device) -> AbstractContextManager[None]:
    """Put the generators that a network on a device draws from back at the end."""
    return torch.random.fork_rng([device] if device.type == "cuda" else [])


def seed_step(device: torch.device, seed: int, epoch: int, step: int) -> None:
    """Make what a network draws in a step follow from these numbers alone, whatever was drawn before it.

    One training at a time in a process: the generators are those of all threads.
    """
    word = int(counter.bits(counter.NETWORK, seed, epoch, step)[0])
    torch.default_generator.manual_seed(word)
    if device.type == "cuda":
        with torch.cuda.device(device):
            torch.cuda.manual_seed(word)
