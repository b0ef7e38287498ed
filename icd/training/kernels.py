"""Which kernels a training may use: the same ones each time, and in the precision that its configuration names."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch

DETERMINISTIC = "ICD_DETERMINISTIC"  # environment: 1 for algorithms that add in one order, wherever torch has them


@contextmanager
def kernels(device: torch.device, precision: str) -> Iterator[None]:
    """Fixed kernels on CUDA that round as a training's precision says; on a CPU there is nothing to choose.

    Whatever measures its network takes the same ones. Some still add in an order that changes from run to run (the
    gradient of max pooling is one). Where ``ICD_DETERMINISTIC`` is 1 torch takes slower ones that do not, and warns of
    an operation that has none.
    """
    if device.type != "cuda":
        yield
        return
    cudnn, strict = torch.backends.cudnn, os.environ.get(DETERMINISTIC) == "1"
    before = cudnn.deterministic, cudnn.benchmark, torch.are_deterministic_algorithms_enabled()
    cudnn.deterministic, cudnn.benchmark = True, False
    if strict:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # read at the first product of matrices
        torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        with products(device, tf32=precision == "tf32"):
            yield
    finally:
        cudnn.deterministic, cudnn.benchmark = before[:2]
        torch.use_deterministic_algorithms(before[2], warn_only=True)


@contextmanager
def products(device: torch.device, *, tf32: bool) -> Iterator[None]:
    """Multiply float32 numbers on CUDA in full precision, or rounded to TF32; torch itself rounds in convolutions."""
    if device.type != "cuda":
        yield
        return
    cudnn, matmul = torch.backends.cudnn, torch.backends.cuda.matmul
    before = cudnn.allow_tf32, matmul.allow_tf32
    cudnn.allow_tf32 = matmul.allow_tf32 = tf32
    try:
        yield
    finally:
        cudnn.allow_tf32, matmul.allow_tf32 = before
