"""View families that turn or zoom: rotations for Tiny-ImageNet, random resized crops for ImageNet.

Shape key:
    B: batch    C: colours (3)    H, W: height, width    S: output side    A: angles
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Annotated, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from icd.data import counter
from icd.data.decode import pixels
from icd.data.view_parts import OfSquares, ViewIds, flipped_where, ids_on, resize_problems
from icd.errors import require
from icd.fields import Checked, Count, FieldProblem, Range
from icd.kept import kept

if TYPE_CHECKING:
    from PIL.Image import Image

_TRIES = 10  # torchvision's number of tries before it takes the centre


@dataclass(frozen=True, slots=True, kw_only=True)
class RotateFlip(OfSquares, Checked):
    """Rotate about the centre with nearest sampling and black corners, mirror left to right (Tiny-ImageNet).

    View id ``flip * steps + step``: rotate by ``-degrees + 2 * degrees * step / (steps - 1)`` counter-clockwise, then
    mirror where ``flip`` is 1. torchvision's ``RandomRotation(20)`` draws a continuous angle; a cache needs countable
    views, so ours takes the nearest of ``steps`` angles (0.1 degrees apart by default). There the pixels equal
    Pillow's ``Image.rotate``. The test-time view is the image itself.
    """

    size: Annotated[int, Range(at_least=1, below=16384)]
    degrees: Annotated[float, Range(above=0, at_most=180)] = 20.0
    steps: Annotated[int, Range(at_least=2)] = 401
    flip: bool = True
    resizes: ClassVar[bool] = False

    @property
    def num_views(self) -> int:
        return self.steps * (2 if self.flip else 1)

    def apply(self, images_BCHW: Tensor, view_ids_B: ViewIds) -> Tensor:
        images_BCHW = self.evaluate(images_BCHW)
        ids_B = ids_on(images_BCHW.device, view_ids_B, self.num_views)
        sources_AP = _rotation_table(self.size, float(self.degrees), self.steps, images_BCHW.device)
        # One black pixel behind each image stands for everything outside of it.
        flat_BCP = F.pad(images_BCHW.flatten(2), (0, 1))
        take_B1P = sources_AP[ids_B % self.steps].long()[:, None]
        turned_BCP = flat_BCP.gather(2, take_B1P.expand(-1, flat_BCP.shape[1], -1))
        turned_BCSS = turned_BCP.view(*turned_BCP.shape[:2], self.size, self.size)
        return flipped_where(turned_BCSS, ids_B >= self.steps) if self.flip else turned_BCSS


@partial(kept, most=4)  # 8 MB each at 64 pixels, 80 MB at 224; a trial has one, or two with its teacher's training
def _rotation_table(size: int, degrees: float, steps: int, device: torch.device) -> Tensor:
    """For each angle, which source pixel each output pixel shows: int32 [steps, size * size]; size**2 = outside.

    Pillow turns an image of the pixels' numbers, so ties fall as they do in pictures, here and on a GPU.
    """
    from PIL import Image

    numbers = Image.fromarray(np.arange(size * size, dtype=np.int32).reshape(size, size))
    angles = [-degrees + 2 * degrees * step / (steps - 1) for step in range(steps)]
    table_AP = np.stack([np.asarray(numbers.rotate(angle, fillcolor=size * size)).ravel() for angle in angles])
    return torch.from_numpy(table_AP).to(device)


@dataclass(frozen=True, slots=True, kw_only=True)
class RandomResizedCrop(Checked):
    """Crop a random box of a file, resize it, mirror it (ImageNet); the view id seeds the box and the flip.

    Area 8 to 100 % of the image, width / height 3/4 to 4/3, log-uniform; bilinear with antialiasing:
    torchvision's recipe with counter-based numbers. For files only, because the box depends on each image's
    own size. The test-time view is the shorter side resized to ``resize`` and the centre crop.
    """

    size: Count = 224
    resize: Count = 256
    flip: bool = True
    num_views: ClassVar[int] = 2**31
    source: ClassVar[None] = None
    resizes: ClassVar[bool] = True

    def rules(self) -> Iterator[FieldProblem]:
        return resize_problems(self.resize, self.size)

    def apply(self, images_BCHW: Tensor, view_ids_B: ViewIds | None = None) -> Tensor:
        raise ValueError("random_resized_crop shows image files only; choose crop_flip for images held in memory")

    evaluate = apply

    def render(self, image: "Image", view_id: int | None) -> NDArray[np.uint8]:
        from PIL.Image import Resampling
        from torchvision.transforms.functional import center_crop, resize

        if view_id is None:
            return pixels(center_crop(resize(image, [self.resize]), [self.size]))
        require(0 <= view_id < self.num_views, f"0 <= view id < {self.num_views}", view_id)
        numbers = counter.uniform(counter.RESIZED_CROP, view_id, np.arange(4 * _TRIES + 1)).tolist()
        # Crop first: resizing with a box would let the filter look at pixels outside the crop.
        shown = image.crop(crop_box(image.width, image.height, numbers))
        array_CHW = pixels(shown.resize((self.size, self.size), Resampling.BILINEAR))
        return np.ascontiguousarray(array_CHW[:, :, ::-1]) if self.flip and numbers[-1] < 0.5 else array_CHW


def crop_box(width: int, height: int, numbers: list[float]) -> tuple[int, int, int, int]:
    """Choose a crop (left, top, right, bottom) from numbers in [0, 1)."""
    for first in range(0, 4 * _TRIES, 4):
        area, shape, down, right = numbers[first : first + 4]
        target = width * height * (0.08 + 0.92 * area)
        ratio = math.exp((2 * shape - 1) * math.log(4 / 3))
        w, h = round(math.sqrt(target * ratio)), round(math.sqrt(target / ratio))
        if 0 < w <= width and 0 < h <= height:
            left, top = int(right * (width - w + 1)), int(down * (height - h + 1))
            return left, top, left + w, top + h
    w, h = min(width, round(height * 4 / 3)), min(height, round(width * 4 / 3))
    left, top = (width - w) // 2, (height - h) // 2
    return left, top, left + w, top + h
