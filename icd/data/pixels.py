"""Pixels of image files and pictures, and what all view families need: checked view ids, checked sides.

16-bit greys keep their upper byte, as Pillow does with 16-bit colours; photographs are turned as their EXIF data says;
of transparent images the colours are taken, as torchvision does. Animations and pixels of no known range are refused.

Shape key:
    B: batch    C: colours (3)    H, W: height, width    S: side
"""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from icd.errors import DataError
from icd.fields import FieldProblem

if TYPE_CHECKING:
    from PIL.Image import Image

IMAGE_SUFFIXES = frozenset((".jpg", ".jpeg", ".png", ".bmp", ".ppm", ".webp"))
_BITS_16 = ("PNG", "PPM")  # formats whose mode I holds 0..65535
_SEVERAL_SIZES = "MPO"  # a camera's format: the other frames are previews of the first

ViewIds = Tensor | NDArray[np.int64]


def require(holds: bool, rule: str, value: object) -> None:
    """Raise a ``ValueError`` that states the rule and the value which broke it."""
    if not holds:
        raise ValueError(f"`{rule}` must hold, but got {value!r}")


def resize_problems(resize: int | None, size: int) -> Iterator[FieldProblem]:
    """Say what is wrong with a view's fields when the image is made smaller than the crop."""
    if resize is not None and resize < size:
        yield FieldProblem("resize", f"resize >= size ({size}) must hold", resize)


def decode_rgb(path: Path) -> "Image":
    """Decode a file, upright, to RGB.

    Raises:
        DataError: With the file's name, if it is broken or cannot be shown as 8-bit RGB without a guess.
    """
    from PIL import Image, ImageFile

    # Some libraries switch this on for the whole process; half an image would then pass as a whole one.
    ImageFile.LOAD_TRUNCATED_IMAGES = False
    try:
        with Image.open(path) as image:
            problem = _problem(image)
            if not problem:
                return _rgb(image)
    except Exception as error:  # a decoder fed with a broken file raises anything, struct.error included
        told = f"not a readable image ({type(error).__name__}: {error}); restore or remove the file"
        raise DataError(f"{path}: {told}") from error
    raise DataError(f"{path}: {problem}")


def _problem(image: "Image") -> str | None:
    if getattr(image, "is_animated", False) and image.format != _SEVERAL_SIZES:
        return f"an image must be one picture, but this file holds {getattr(image, 'n_frames', 'several')}; keep one"
    if image.mode == "F" or (image.mode == "I" and image.format not in _BITS_16):
        return f"pixels must have 8 or 16 bits a colour, but got mode {image.mode!r}; convert the file"
    return None


def _rgb(image: "Image") -> "Image":
    from PIL import Image, ImageOps

    image.load()
    if image.info.get("exif"):
        image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I"):
        return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8)).convert("RGB")
    if image.mode == "P" and "transparency" in image.info:
        image = image.convert("RGBA")  # straight to RGB Pillow warns
    return image.convert("RGB")


def pixels(image: "Image") -> NDArray[np.uint8]:
    """Copy a PIL image to uint8 [3, H, W]; grey and palette images become RGB."""
    array_HWC = np.asarray(image if image.mode == "RGB" else image.convert("RGB"))
    return np.ascontiguousarray(array_HWC.transpose(2, 0, 1))


def stretched(image: "Image", side: int) -> "Image":
    """Resize to exactly ``side`` x ``side``, bilinear as torchvision's ``Resize((side, side))``."""
    from PIL.Image import Resampling

    return image if image.size == (side, side) else image.resize((side, side), Resampling.BILINEAR)


def stretched_batch(images_BCHW: Tensor, side: int) -> Tensor:
    """Resize uint8 images to ``side`` x ``side`` where they have another size; within one grey level of Pillow."""
    if images_BCHW.shape[-2:] == (side, side):
        return images_BCHW
    sized = F.interpolate(images_BCHW.float(), (side, side), mode="bilinear", antialias=True, align_corners=False)
    return sized.round_().clamp_(0, 255).to(torch.uint8)


class OfSquares:
    """What families share whose views are taken from a square: a file is shown as images in memory are."""

    __slots__ = ()

    @property
    def source(self: Any) -> int:
        """Side of the square that views are taken from: that of a view, unless a family says otherwise."""
        return int(self.size)

    def evaluate(self: Any, images_BCHW: Tensor) -> Tensor:
        """Bring a batch to the square that views are taken from, or refuse images of another size."""
        if self.resizes:
            return stretched_batch(images_BCHW, self.source)
        shape = tuple(images_BCHW.shape[2:])
        require(shape == (self.source, self.source), f"image height and width == {self.source}", shape)
        return images_BCHW

    def render(self: Any, image: "Image", view_id: int | None) -> NDArray[np.uint8]:
        """Show a decoded file under a view, or as at test time: uint8 [3, S, S]."""
        square_1CHW = torch.from_numpy(pixels(stretched(image, self.source) if self.resizes else image))[None]
        shown_1CSS = self.evaluate(square_1CHW) if view_id is None else self.apply(square_1CHW, np.array([view_id]))
        return np.ascontiguousarray(shown_1CSS[0].numpy())


def ids_on(device: torch.device, view_ids: ViewIds, num_views: int) -> Tensor:
    """Move view ids [B] to ``device`` as int64; the range is checked unless that would stall a GPU."""
    ids_B = torch.as_tensor(view_ids, dtype=torch.int64)
    if ids_B.device.type == "cpu" and ids_B.numel():
        low, high = int(ids_B.min()), int(ids_B.max())
        require(low >= 0 and high < num_views, f"0 <= view id < {num_views}", (low, high))
    return ids_B.to(device, non_blocking=True)


def flipped_where(images_BCHW: Tensor, flip_B: Tensor) -> Tensor:
    """Mirror the images whose flag is set, left to right."""
    # Both versions, then whole images by number: a boolean index stalls a GPU, `where` is 4 times slower.
    both_2BCHW = torch.cat((images_BCHW, images_BCHW.flip(3)))
    num_images = len(images_BCHW)
    return both_2BCHW.index_select(0, flip_B * num_images + torch.arange(num_images, device=images_BCHW.device))


def windows(images_BCHW: Tensor, oy_B: Tensor, ox_B: Tensor, side: int) -> Tensor:
    """Cut from each image the ``side`` x ``side`` window whose upper left corner is (oy, ox): [B, C, side, side]."""
    num_images, num_colours, height, width = images_BCHW.shape
    flat = images_BCHW.contiguous().flatten()
    # Row i of this overlapping view starts at pixel i, so a window is `side` of its rows, one copy each.
    stretches = flat.as_strided((flat.numel() - side + 1, side), (1, 1))
    steps = torch.arange(max(num_images * num_colours, side), device=flat.device)
    planes_BC = steps[: num_images * num_colours].view(num_images, num_colours) * (height * width)
    rows_BS = (oy_B[:, None] + steps[:side]) * width + ox_B[:, None]
    starts_BCS = planes_BC[:, :, None] + rows_BS[:, None]
    return stretches.index_select(0, starts_BCS.flatten()).view(num_images, num_colours, side, side)


def centre_offset(outer: int, inner: int) -> int:
    """Where a centre crop starts; rounds half to even as torchvision does."""
    return round((outer - inner) / 2)
