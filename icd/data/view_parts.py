"""What view families share: checked view ids and sides, squares, windows and mirrored images.

Shape key:
    B: batch    C: colours (3)    H, W: height, width    S: side
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from icd.data.decode import pixels, stretched
from icd.errors import require
from icd.fields import FieldProblem

if TYPE_CHECKING:
    from PIL.Image import Image

ViewIds = Tensor | NDArray[np.int64]


def resize_problems(resize: int | None, size: int) -> Iterator[FieldProblem]:
    """Say what is wrong with a view's fields when the image is made smaller than the crop."""
    if resize is not None and resize < size:
        yield FieldProblem("resize", f"resize >= size ({size}) must hold", resize)


class OfSquares:
    """What families share whose views are taken from a square: a file is shown as images in memory are."""

    __slots__ = ()

    @property
    def source(self: Any) -> int:
        """Side of the square that views are taken from: that of a view, unless a family says otherwise."""
        return int(self.size)

    def evaluate(self: Any, images_BCHW: Tensor) -> Tensor:
        """Bring a batch to the square that views are taken from, or refuse images of another size."""
        square, shape = (self.source, self.source), tuple(images_BCHW.shape[2:])
        if shape == square:
            return images_BCHW
        require(self.resizes, f"image height and width == {self.source}", shape)
        sized = F.interpolate(images_BCHW.float(), square, mode="bilinear", antialias=True, align_corners=False)
        return sized.round_().clamp_(0, 255).to(torch.uint8)  # within one grey level of Pillow

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
