"""The steps from an image to the input of an exported program, as lines of Python for its card."""

from collections.abc import Sequence

from icd.data.pixels import centre_offset
from icd.data.views import CropFlip, Identity, RandAugment, ViewFamily
from icd.data.warps import RandomResizedCrop, RotateFlip

_SQUARES = (CropFlip, RandAugment, RotateFlip, Identity)


def input_steps(
    views: ViewFamily, mean: Sequence[float] | None, std: Sequence[float] | None, *, file: str = "image.png"
) -> list[str]:
    """Write a view family's test-time view with Pillow and NumPy alone; empty for a family of a plugin.

    The last line gives ``images``, float32 [1, 3, size, size].

    Args:
        views: Of the training.
        mean: Of each channel, pixels scaled to 0..1; None where it is not known.
        std: The same.
        file: The image's name in the first step.
    """
    if type(views) is RandomResizedCrop:
        shown = _of_shorter_side(views)
    elif isinstance(views, _SQUARES):
        shown = _of_square(views)
    else:
        return []
    known = mean is not None and std is not None
    numbers = f"{[*mean]}, {[*std]}" if mean is not None and std is not None else "..., ..."
    return [
        "import numpy as np",
        "from PIL import Image, ImageOps",
        f'picture = ImageOps.exif_transpose(Image.open("{file}")).convert("RGB")',
        *shown,
        f"mean, std = {numbers}{'' if known else '  # the data set has them'}",
        "pixels = (np.asarray(picture) / 255 - mean) / std",
        "images = pixels.astype(np.float32).transpose(2, 0, 1)[None]",
    ]


def _of_square(views: CropFlip | RandAugment | RotateFlip | Identity) -> list[str]:
    source, size = views.source, views.size
    lines = [f"assert picture.size == ({source}, {source})  # others must be made so first, as the data set was"]
    if views.resizes:
        lines = [f"picture = picture.resize(({source}, {source}), Image.Resampling.BILINEAR)"]
    if source > size:
        start = centre_offset(source, size)
        lines.append(f"picture = picture.crop(({start}, {start}, {start + size}, {start + size}))")
    return lines


def _of_shorter_side(views: RandomResizedCrop) -> list[str]:
    resize, size = views.resize, views.size
    return [
        f"sides = [{resize} * side // min(picture.size) for side in picture.size]  # the shorter one: {resize}",
        "picture = picture.resize(sides, Image.Resampling.BILINEAR)",
        f"left, top = (round((side - {size}) / 2) for side in sides)",
        f"picture = picture.crop((left, top, left + {size}, top + {size}))",
    ]
