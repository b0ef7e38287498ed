"""The order in which an epoch shows its images; and from images and view ids to normalised batches, in that order.

Shape key:
    B: batch    C: colours (3)    H, W: height, width    N: images to show, in order
"""

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from icd.data import counter
from icd.data.images import ArrayImages, FileImages, ImageSet
from icd.data.split import Rgb
from icd.data.views import ViewFamily
from icd.errors import require

Numbers = NDArray[np.int64]
_AHEAD = 2  # batches that are being decoded beside the one that is waited for


class Batch(NamedTuple):
    """What one step sees, all on the device asked for."""

    images_BCHW: Tensor  # float32, normalised
    labels_B: Tensor  # int64
    indices_B: Tensor  # int64: which images of the set these are


def order(seed: int, epoch: int, n: int) -> NDArray[np.int64]:
    """Shuffle ``range(n)`` for an epoch; a pure function of (the trial's seed, epoch), int64 [n]."""
    # The hash is a bijection of the index, so there are no ties for the sort to settle.
    return np.argsort(counter.bits(counter.ORDER, seed, epoch, np.arange(n))).astype(np.int64)


def batches(
    images: ImageSet,
    *,
    indices: ArrayLike,
    view_ids: ArrayLike | None,
    views: ViewFamily,
    batch_size: int,
    normaliser: "Normaliser",
    num_workers: int = 0,
) -> Iterator[Batch]:
    """Show images batch by batch; a pure function of its arguments, whatever ``num_workers``.

    Args:
        images: Where the pixels are.
        indices: Which images to show, in this order, [N].
        view_ids: The view of each, [N]; None for the test-time view.
        views: The family the ids belong to.
        batch_size: B; the last batch may be smaller.
        normaliser: What is done on the way, and where the batches shall be: uint8 travels.
        num_workers: Threads that decode files. Images in memory need none.

    Raises:
        DataError: At an image file that cannot be decoded.
    """
    indices_N = np.asarray(indices, dtype=np.int64)
    view_ids_N = None if view_ids is None else np.asarray(view_ids, dtype=np.int64)
    require(batch_size >= 1, "batch_size >= 1", batch_size)
    require(view_ids_N is None or view_ids_N.shape == indices_N.shape, f"{len(indices_N)} view ids", view_ids)
    if isinstance(images, ArrayImages):
        shown = _from_memory(images, indices_N, view_ids_N, views, batch_size)
    else:
        pinned = normaliser.device.type == "cuda"
        shown = _from_files(images, indices_N, view_ids_N, views, batch_size, num_workers, pinned)
    return _normalised(shown, images.labels_N, normaliser)


class Normaliser:
    """Turns uint8 pixels into what a network sees, on its device, by one multiplication and one addition.

    ``mean`` and ``std`` are of pixels scaled to 0..1; ``channels_last`` is the memory format of the result.
    """

    def __init__(self, mean: Rgb, std: Rgb, device: torch.device, channels_last: bool) -> None:
        self.device = device
        deviation_C = torch.tensor(std, dtype=torch.float64)
        self._scale_C11 = (1.0 / (255.0 * deviation_C)).to(device, torch.float32)[:, None, None]
        bias_C = -torch.tensor(mean, dtype=torch.float64) / deviation_C
        self._bias_C11 = bias_C.to(device, torch.float32)[:, None, None]
        self._layout = torch.channels_last if channels_last else torch.contiguous_format

    def __call__(self, images_BCHW: Tensor) -> Tensor:
        floats_BCHW = images_BCHW.to(self.device, non_blocking=True).float().mul_(self._scale_C11).add_(self._bias_C11)
        return floats_BCHW.contiguous(memory_format=self._layout)


def _normalised(shown: Iterator[tuple[Tensor, Tensor]], labels_N: Tensor, normaliser: Normaliser) -> Iterator[Batch]:
    device = normaliser.device
    for images_BCHW, indices_B in shown:
        labels_B = labels_N[indices_B.to(labels_N.device)].to(device, non_blocking=True)
        yield Batch(normaliser(images_BCHW), labels_B, indices_B.to(device, non_blocking=True))


def _from_memory(
    images: ArrayImages, indices_N: Numbers, view_ids_N: Numbers | None, views: ViewFamily, batch_size: int
) -> Iterator[tuple[Tensor, Tensor]]:
    pixels_NCHW = images.images_NCHW
    # The whole epoch's indices go to the device at once: one transfer instead of one for each batch.
    on_device_N = torch.from_numpy(indices_N).to(pixels_NCHW.device)
    ids_N = None if view_ids_N is None else torch.from_numpy(view_ids_N).to(pixels_NCHW.device)
    for first in range(0, len(indices_N), batch_size):
        part = slice(first, first + batch_size)
        raw_BCHW = pixels_NCHW.index_select(0, on_device_N[part])
        yield views.evaluate(raw_BCHW) if ids_N is None else views.apply(raw_BCHW, ids_N[part]), on_device_N[part]


def _from_files(
    images: FileImages,
    indices_N: Numbers,
    view_ids_N: Numbers | None,
    views: ViewFamily,
    batch_size: int,
    num_workers: int,
    pinned: bool,
) -> Iterator[tuple[Tensor, Tensor]]:
    """Decode with threads, a few batches ahead: Pillow and NumPy release the GIL, and nothing has to be started."""

    def begin(first: int) -> tuple[Tensor, list[Future[None]]]:
        places = range(first, min(first + batch_size, len(indices_N)))
        shown_BCHW = torch.empty(len(places), 3, views.size, views.size, dtype=torch.uint8, pin_memory=pinned)
        return shown_BCHW, [pool.submit(render, *pair) for pair in zip(shown_BCHW.numpy(), places, strict=True)]

    def render(target_CHW: NDArray[np.uint8], place: int) -> None:
        view_id = None if view_ids_N is None else int(view_ids_N[place])
        target_CHW[:] = views.render(images.source(int(indices_N[place]), views), view_id)

    pool, waiting = ThreadPoolExecutor(max(1, num_workers), "icd-decoder"), deque[tuple[Tensor, list[Future[None]]]]()
    firsts = range(0, len(indices_N), batch_size)
    try:
        waiting.extend(map(begin, firsts[:_AHEAD]))
        for first in firsts:
            shown_BCHW, rendered = waiting.popleft()
            waiting.extend(map(begin, firsts[_AHEAD + first // batch_size :][:1]))
            for one in rendered:
                one.result()
            yield shown_BCHW, torch.from_numpy(indices_N[first : first + batch_size])
    finally:
        pool.shutdown(cancel_futures=True)
