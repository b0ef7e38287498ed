"""Decodes image files to 8-bit RGB: grey and palette images become RGB, broken ones are refused with their name.

16-bit greys keep their upper byte, as Pillow does with 16-bit colours; photographs are turned as their EXIF data says;
of transparent images the colours are taken, as torchvision does. Animations and pixels of no known range are refused.

Shape key:
    H, W: height, width
"""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from icd.errors import DataError

if TYPE_CHECKING:
    from PIL.Image import Image

IMAGE_SUFFIXES = frozenset((".jpg", ".jpeg", ".png", ".bmp", ".ppm", ".webp"))
_BITS_16 = ("PNG", "PPM")  # formats whose mode I holds 0..65535
_SEVERAL_SIZES = "MPO"  # a camera's format: the other frames are previews of the first


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
            if not (problem := _problem(image)):
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
