"""Augmentation as a function of a view id: (image, view id) -> pixels, with nothing drawn on the way.

A family says how many views an image has; ``draw`` says which one an image shows in an epoch. So what the teacher says
about (image, view) can be kept in a cache, and every trial, node or resumed run sees the same pixels.

All families are values, compared by their fields, and have: ``size``, the side of every view; ``num_views``;
``source``, the side of the square that views are taken from (None: of the image as it is); ``resizes``, whether
images of another size are brought to it or refused; ``apply(images, view ids)`` and ``evaluate(images)``, for batches
in memory under their views or as at test time, uint8 [B, C, S, S]; ``render(image, view id or None)``, the same for
a decoded file, uint8 [C, S, S].

Shape key:
    B: batch    C: colours (3)    H, W: height, width    S: output side    O: operations of RandAugment
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Annotated, ClassVar

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor
from torch.nn import functional as F

from icd.data import counter
from icd.data.decode import pixels
from icd.data.view_parts import OfSquares, ViewIds, flipped_where, ids_on, resize_problems, windows
from icd.data.warps import RandomResizedCrop, RotateFlip
from icd.fields import Checked, Count, FieldProblem, NonNegativeInt, Range
from icd.registry import Registry

if TYPE_CHECKING:
    from PIL.Image import Image

STRENGTHS = 30  # of RandAugment run from 0 to this


def draw(seed: int, epoch: ArrayLike, indices_B: ArrayLike, num_views: int) -> NDArray[np.int64]:
    """Choose the view that each image [B] shows in an epoch: int64 [B], uniform over ``range(num_views)``.

    A pure function of (seed, epoch, image index): the batch an image is in, the process and a resume do not matter.
    Equal seeds give common random numbers across trials.
    """
    return counter.below(num_views, counter.VIEW, seed, epoch, indices_B)


@dataclass(frozen=True, slots=True, kw_only=True)
class CropFlip(OfSquares, Checked):
    """Zero-pad, crop a window, mirror left to right: CIFAR (pad 4: 162 views), CUB (256 -> 224: 2178 views).

    View id ``(flip * span + oy) * span + ox``: the window whose upper left corner is (oy, ox) in the padded
    image, mirrored where ``flip`` is 1; ``span`` is the number of window positions along one axis. The same
    pixels as torchvision's ``RandomCrop(size, padding=pad)`` and ``hflip`` on the raw image, before
    normalisation. The test-time view is the centre crop without padding: for CIFAR, the image itself.
    """

    size: Count
    pad: NonNegativeInt = 0
    resize: Count | None = None  # stretch to this square first; without it, images must be `size` x `size`
    flip: bool = True

    def rules(self) -> Iterator[FieldProblem]:
        return resize_problems(self.resize, self.size)

    @property
    def source(self) -> int:
        """Side of the image before padding."""
        return self.size if self.resize is None else self.resize

    @property
    def resizes(self) -> bool:
        return self.resize is not None

    @property
    def span(self) -> int:
        """Window positions along one axis."""
        return self.source + 2 * self.pad - self.size + 1

    @property
    def num_crops(self) -> int:
        """Windows, and their mirror images."""
        return self.span**2 * (2 if self.flip else 1)

    @property
    def num_views(self) -> int:
        return self.num_crops

    def apply(self, images_BCHW: Tensor, view_ids_B: ViewIds) -> Tensor:
        ids_B = ids_on(images_BCHW.device, view_ids_B, self.num_crops)
        source_BCHW = OfSquares.evaluate(self, images_BCHW)
        padded_BCHW = F.pad(source_BCHW, (self.pad,) * 4) if self.pad else source_BCHW
        crops_BCSS = windows(padded_BCHW, ids_B // self.span % self.span, ids_B % self.span, self.size)
        return flipped_where(crops_BCSS, ids_B >= self.span**2) if self.flip else crops_BCSS

    def evaluate(self, images_BCHW: Tensor) -> Tensor:
        source_BCHW = OfSquares.evaluate(self, images_BCHW)
        start = round((self.source - self.size) / 2)  # half to even, as torchvision does
        return source_BCHW[:, :, start : start + self.size, start : start + self.size]


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity(OfSquares, Checked):
    """No augmentation: one view, the image itself; files are stretched to the square first."""

    size: Count
    num_views: ClassVar[int] = 1
    resizes: ClassVar[bool] = True

    def apply(self, images_BCHW: Tensor, view_ids_B: ViewIds) -> Tensor:
        ids_on(images_BCHW.device, view_ids_B, 1)
        return self.evaluate(images_BCHW)


@dataclass(frozen=True, slots=True, kw_only=True)
class RandAugment(CropFlip):
    """Crop and mirror as ``crop_flip`` does, then apply ``num_ops`` of RandAugment's 14 operations.

    The view id seeds the crop, the operations, drawn with replacement, and their signs. The pixels of an operation are
    those of torchvision 0.25's ``RandAugment`` on a picture, nearest sampling and black corners. Pictures are worked on
    one by one on the CPU, wherever they lie. The test-time view is that of ``crop_flip``. Source: Cubuk et al.,
    "RandAugment: Practical automated data augmentation with a reduced search space", NeurIPS 2020.

    Attributes:
        size: Side of the view.
        pad: Zeros around the image before the crop.
        resize: Side of the square to which the image is stretched first; null for images of ``size``.
        flip: Whether half of the views are mirrored left to right.
        num_ops: Operations of a view, one after the other.
        magnitude: Strength of all operations, 0 to 30.
        num_views: Views of an image. Of few a teacher cache can hold all.
    """

    num_ops: Annotated[int, Range(at_least=1, at_most=14)] = 2
    magnitude: Annotated[int, Range(at_least=0, at_most=STRENGTHS)] = 9
    num_views: Annotated[int, Range(at_least=1, at_most=2**31)] = 2**31

    def apply(self, images_BCHW: Tensor, view_ids_B: ViewIds) -> Tensor:
        from PIL import Image

        ids_B = ids_on(torch.device("cpu"), view_ids_B, self.num_views).numpy()
        crops_B = counter.below(self.num_crops, counter.RAND_AUGMENT, ids_B, 0)
        cropped_BSSC = CropFlip.apply(self, images_BCHW, crops_B).cpu().numpy().transpose(0, 2, 3, 1)
        shown = zip(map(Image.fromarray, cropped_BSSC), draw_operations(ids_B, self.num_ops), strict=True)
        shown_BCSS = np.stack([pixels(augmented(picture, drawn_O, self.magnitude)) for picture, drawn_O in shown])
        return torch.from_numpy(shown_BCSS).to(images_BCHW.device)


def draw_operations(view_ids_B: NDArray[np.int64], num_ops: int) -> NDArray[np.int64]:
    """Draw operations of RandAugment [B, O] for views, int64; those from ``len(OPERATIONS)`` on are negated."""
    return counter.below(2 * len(OPERATIONS), counter.RAND_AUGMENT, view_ids_B[:, None], 1 + np.arange(num_ops))


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

    given = {"posterize": 8 - round(4 * abs(strength)), "solarize": 255 * (1 - abs(strength))}
    changed: Image = getattr(ImageOps, name)(image, *([given[name]] if name in given else []))
    return changed


# In torchvision's order: a view id means what it does by it, so it stays. Each takes how strongly it acts, -1 to 1.
OPERATIONS: tuple[Callable[["Image", float], "Image"], ...] = (
    lambda image, strength: image,
    lambda image, strength: _affine(image, 1, 0.3 * strength, 0, 0, 1, 0),
    lambda image, strength: _affine(image, 1, 0, 0, 0.3 * strength, 1, 0),
    lambda image, strength: _affine(image, 1, 0, -int(150 / 331 * image.width * strength), 0, 1, 0),
    lambda image, strength: _affine(image, 1, 0, 0, 0, 1, -int(150 / 331 * image.height * strength)),
    lambda image, strength: image.rotate(30 * strength),
    *(partial(_enhanced, name) for name in ("Brightness", "Color", "Contrast", "Sharpness")),
    *(partial(_changed, name) for name in ("posterize", "solarize", "autocontrast", "equalize")),
)


ViewFamily = CropFlip | RotateFlip | RandomResizedCrop | RandAugment | Identity

VIEW_FAMILIES: Registry[type[ViewFamily]] = Registry(
    "augmentation",
    {
        "crop_flip": CropFlip,
        "rotate_flip": RotateFlip,
        "random_resized_crop": RandomResizedCrop,
        "rand_augment": RandAugment,
        "none": Identity,
    },
)
