"""The Gram matrices of a trial's figure as numbers, for readers that have no torch: ``grams.npz`` in its folder."""

import io
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

GRAMS_NAME = "grams.npz"
_LARGEST_SIDE = 48  # of a kept image, in pixels
_SIDES = ("teacher", "student", "before")


@dataclass(frozen=True, slots=True, kw_only=True)
class Grams:
    """Gram matrices of the same few images; rows sum to 1."""

    teacher: Mapping[int, np.ndarray[Any, Any]]  # for each scale [B, M, M], M = scale * scale
    student: Mapping[int, np.ndarray[Any, Any]]  # the same after the last epoch
    before: Mapping[int, np.ndarray[Any, Any]]  # the same with the student's initial weights
    images: np.ndarray[Any, Any]  # what was looked at, [B, H, W, 3] in 0 to 255


def pack_grams(grams: Grams) -> bytes:
    """Write them as the content of a file."""
    arrays = {f"{side}_{scale}": matrix for side in _SIDES for scale, matrix in getattr(grams, side).items()}
    buffer = io.BytesIO()
    np.savez_compressed(buffer, allow_pickle=False, images=grams.images, **arrays)
    return buffer.getvalue()


def read_grams(path: Path) -> Grams | None:
    """Read them again; None where there are none, or the file is damaged."""
    try:
        with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        sides: dict[str, dict[int, np.ndarray[Any, Any]]] = {side: {} for side in _SIDES}
        images = arrays.pop("images")
        for name, matrix_BMM in arrays.items():
            side, _, scale = name.partition("_")
            sides[side][int(scale)] = matrix_BMM
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None
    return Grams(images=images, **sides)


def thumbnails(images_BCHW: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Give small pictures of normalised images, each stretched from its darkest to its brightest value."""
    low = images_BCHW.min(axis=(1, 2, 3), keepdims=True)
    span = np.maximum(images_BCHW.max(axis=(1, 2, 3), keepdims=True) - low, 1e-12)
    stride = max(1, -(-max(images_BCHW.shape[2:]) // _LARGEST_SIDE))
    pixels = np.round(255 * (images_BCHW - low) / span).astype(np.uint8)[:, :, ::stride, ::stride]
    return np.ascontiguousarray(np.broadcast_to(pixels, (len(pixels), 3, *pixels.shape[2:])).transpose(0, 2, 3, 1))
