"""Which kernels cuDNN may choose: one setting for the whole process, whichever of its threads train."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import torch

_lock = threading.Lock()
_users = 0
_before = False, False  # deterministic, benchmark


@contextmanager
def reproducible(device: torch.device) -> Iterator[None]:
    """Fixed kernels on CUDA, put back by the last thread to leave; on a CPU there is nothing to choose."""
    if device.type != "cuda":
        yield
        return
    _enter()
    try:
        yield
    finally:
        _leave()


def _enter() -> None:
    global _users, _before
    cudnn = torch.backends.cudnn
    with _lock:
        if not _users:
            _before = cudnn.deterministic, cudnn.benchmark
            cudnn.deterministic, cudnn.benchmark = True, False
        _users += 1


def _leave() -> None:
    global _users
    cudnn = torch.backends.cudnn
    with _lock:
        _users -= 1
        if not _users:
            cudnn.deterministic, cudnn.benchmark = _before
