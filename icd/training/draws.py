"""What a network draws while it is trained (dropout, drop path) comes from torch's global generators."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from icd.data import counter
from icd.models.seeding import ONE_AT_A_TIME


@contextmanager
def generators_kept(device: torch.device) -> Iterator[None]:
    """Put the generators that a network on a device draws from back at the end."""
    fork = torch.random.fork_rng([device] if device.type == "cuda" else [])
    with ONE_AT_A_TIME:
        fork.__enter__()
    try:
        yield
    finally:
        with ONE_AT_A_TIME:
            fork.__exit__(None, None, None)


def seed_step(device: torch.device, seed: int, epoch: int, step: int) -> None:
    """Make what a network draws in a step follow from these numbers alone, whatever was drawn before it.

    All threads share these generators, so if two trainings run in one process at once, neither network may draw.
    """
    word = int(counter.bits(counter.NETWORK, seed, epoch, step)[0])
    with ONE_AT_A_TIME:
        torch.default_generator.manual_seed(word)
        if device.type == "cuda":
            with torch.cuda.device(device):
                torch.cuda.manual_seed(word)
