"""The operations of RandAugment on one picture, and which of them a view id stands for.

Source: Cubuk et al., "RandAugment: Practical automated data augmentation with a reduced search space", NeurIPS 2020;
operations, strengths and nearest sampling of torchvision 0.25's ``RandAugment``.

Shape key:
    B: batch    O: operations of a view
"""

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from icd.data import counter

if TYPE_CHECKING:
    from PIL.Image import Image

STRENGTHS = 30  # strengths run from 0 to this
_STREAM = 4  # of random numbers, see views.py

Operation = Callable[["Image", float], "Image"]  # a picture, and how strongly: -1 to 1


def crop_ids(view_ids_B: NDArray[np.int64], num_crops: int) -> NDArray[np.int64]:
    """Say which crop a view begins with, int64 [B]."""
    return counter.below(num_crops, _STREAM, view_ids_B, 0)


def draw_operations(view_ids_B: NDArray[np.int64], num_ops: int) -> NDArray[np.int64]:
    """Draw the operations of views, with replacement: int64 [B, O]; those from ``len(OPERATIONS)`` on are negated."""
    return counter.below(2 * len(OPERATIONS), _STREAM, view_ids_B[:, None], 1 + np.arange(num_ops))


def augmented(image: "Image", operations_O: NDArray[np.int64], magnitude: int) -> "Image":
    """Apply operations one after the other, all with one strength of 0 to 30."""
    for number in operations_O.tolist():
        sign, operation = divmod(number, len(OPERATIONS))
        image = OPERATIONS[operation](image, (-1 if sign else 1) * magnitude / STRENGTHS)
    return image


def _affine(image: "Image", *coefficients: float) -> "Image":
    """Let (x, y) show what was at (a x + b y + c, d x + e y + f); black where that is outside."""
    from PIL.Image import Resampling, Transform

    return image.transform(image.size, Transform.AFFINE, coefficients, Resampling.NEAREST)


def _enhanced(name: str, image: "Image", strength: float) -> "Image":
    from PIL import ImageEnhance

    enhanced: Image = getattr(ImageEnhance, name)(image).enhance(1 + 0.9 * strength)
    return enhanced


def _changed(name: str, image: "Image", strength: float) -> "Image":
    from PIL import ImageOps

    arguments = {"posterize": [8 - round(4 * abs(strength))], "solarize": [255 * (1 - abs(strength))]}
    changed: Image = getattr(ImageOps, name)(image, *arguments.get(name, []))
    return changed


# In torchvision's order. A view id means what it does by this order, so it stays.
OPERATIONS: tuple[Operation, ...] = (
    lambda image, strength: image,
    lambda image, strength: _affine(image, 1, 0.3 * strength, 0, 0, 1, 0),
    lambda image, strength: _affine(image, 1, 0, 0, 0.3 * strength, 1, 0),
    lambda image, strength: _affine(image, 1, 0, -int(150 / 331 * image.width * strength), 0, 1, 0),
    lambda image, strength: _affine(image, 1, 0, 0, 0, 1, -int(150 / 331 * image.height * strength)),
    lambda image, strength: image.rotate(30 * strength),
    *(partial(_enhanced, name) for name in ("Brightness", "Color", "Contrast", "Sharpness")),
    *(partial(_changed, name) for name in ("posterize", "solarize", "autocontrast", "equalize")),
)
