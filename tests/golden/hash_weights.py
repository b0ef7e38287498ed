"""Weights and images from an integer hash, as the network goldens were made (methods.md 4.4).

Knows numpy and torch only, so that it can judge any implementation. The last operations are on float64, and every
integer operation wraps around modulo 2^64.
"""

from math import prod, sqrt
from zlib import crc32

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

Array = NDArray[np.float64]


def hash_uniform(name: str, n: int) -> Array:
    """Give n numbers in [0, 1) that depend on the name and the position only."""
    key = np.uint64(crc32(name.encode("ascii")) * 2654435761 % 2**64)
    x = (np.arange(1, n + 1, dtype=np.uint64) + key) * np.uint64(0x9E3779B97F4A7C15)
    x ^= x >> np.uint64(30)
    x *= np.uint64(0xBF58476D1CE4E5B9)
    x ^= x >> np.uint64(27)
    x *= np.uint64(0x94D049BB133111EB)
    x ^= x >> np.uint64(31)
    return (x >> np.uint64(11)).astype(np.float64) / 2.0**53


def hash_image(shape: tuple[int, ...]) -> Array:
    """Give the image batch of the goldens, values in [-2, 2)."""
    return (4 * hash_uniform("input", prod(shape)) - 2).reshape(shape)


def hash_tensor(name: str, shape: tuple[int, ...]) -> Array:
    """Give the value of one entry of a state dict; the first rule that applies decides."""
    if name.endswith("num_batches_tracked"):
        return np.zeros(shape)
    u = hash_uniform(name, prod(shape)).reshape(shape)
    if name.endswith("running_mean"):
        return 0.1 * (2 * u - 1)
    if name.endswith("running_var"):
        return 0.8 + 0.4 * u
    if len(shape) >= 2:
        return (2 * u - 1) * sqrt(3 / prod(shape[1:]))
    if name.endswith("weight"):
        return 0.8 + 0.4 * u
    return 0.1 * (2 * u - 1)


def fill_state_dict(model: nn.Module) -> None:
    """Overwrite every weight and buffer in place; the model should be float64 already."""
    with torch.no_grad():
        for name, tensor in model.state_dict().items():
            tensor.copy_(torch.from_numpy(hash_tensor(name, tuple(tensor.shape))))
