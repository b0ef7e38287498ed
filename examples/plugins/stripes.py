"""A data set made on the spot: stripes in ten directions, 16 x 16 pixels.

Shape key:
    N: images    C: colours (3)    H, W: height, width
"""

from typing import Annotated

import numpy as np
import torch

import icd
from icd.data import Request, Split
from icd.data.images import ArrayImages
from icd.data.split import make_split
from icd.data.views import CropFlip
from icd.fields import Range

CLASSES, SIDE = 10, 16


def _images(seed: int, per_class: int) -> ArrayImages:
    """Draw stripes at the class's angle, with a phase and noise of their own."""
    draw, labels_N = np.random.default_rng(seed), np.arange(CLASSES * per_class) % CLASSES
    y_HW, x_HW = np.mgrid[:SIDE, :SIDE]
    angle_N11 = (np.pi * labels_N / CLASSES)[:, None, None]
    phase_N11 = draw.uniform(0, 2 * np.pi, len(labels_N))[:, None, None]
    wave_NHW = np.sin(np.cos(angle_N11) * x_HW + np.sin(angle_N11) * y_HW + phase_N11)
    noisy_NCHW = 127 + 80 * wave_NHW[:, None] + draw.normal(0, 20, (len(labels_N), 3, SIDE, SIDE))
    return ArrayImages(torch.from_numpy(noisy_NCHW.clip(0, 255).astype(np.uint8)), torch.from_numpy(labels_N))


@icd.register_dataset(
    "stripes",
    augmentation=CropFlip(size=SIDE, pad=1, flip=False),
    preset="digits100",
    num_classes=CLASSES,
    image_size=SIDE,
    horizontal_flip=False,
)
def load(request: Request, per_class: Annotated[int, Range(at_least=5)] = 20) -> Split:
    """Stripes in ten directions, 16 x 16: made on the spot."""
    return make_split(
        request,
        "stripes",
        _images(0, per_class),
        lambda: _images(1, per_class),
        class_names=[f"{18 * label} degrees" for label in range(CLASSES)],
        mean=(0.5, 0.5, 0.5),
        std=(0.25, 0.25, 0.25),
    )
