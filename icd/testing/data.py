"""Checks of a data set and of an augmentation.

The subject of a data set's checks is a ``DatasetCase``: its name and a function that loads it anew. That of an
augmentation's is one of its values.

Shape key:
    B: batch    C: colours (3)    S: side
"""

import hashlib
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch

from icd.data import DATASETS, Split, views_problem
from icd.data.decode import decode_rgb, pixels
from icd.data.images import ArrayImages, FileImages, ImageSet
from icd.data.loader import Normaliser, batches, order
from icd.data.views import draw
from icd.errors import TestSetClosedError
from icd.testing.contract import Check, require


class DatasetCase(NamedTuple):
    """A data set to check: its name, and what loads it."""

    name: str
    load: Callable[[], Split]


def pixel_hashes(images: ImageSet) -> list[bytes]:
    """Digest of the pixels of each image."""
    if isinstance(images, ArrayImages):
        arrays = list(images.images_NCHW.cpu().numpy())
    elif isinstance(images, FileImages):
        arrays = [pixels(decode_rgb(images.root / name)) for name in images.names]
    else:
        require(False, f"images must be icd.data.images.ArrayImages or FileImages, but are {type(images).__name__}")
        return []
    return [hashlib.sha256(np.ascontiguousarray(array).data).digest() for array in arrays]


def train_val_and_test_share_no_image(case: DatasetCase) -> None:
    """No pixels are in two parts."""
    split = case.load()
    require(isinstance(split, Split), f"must give an icd.data.Split, but gave {type(split).__name__}; see make_split")
    parts = {"train": split.train, "val": split.val, "test": split.test.open("contract")}
    seen = {name: set(pixel_hashes(images)) for name, images in parts.items()}
    for name, hashes in seen.items():
        require(hashes, f"{name} must have images")
    for one, other in (("train", "val"), ("train", "test"), ("val", "test")):
        both = len(seen[one] & seen[other])
        require(not both, f"{one} and {other} must share no image, but share {both}")


def two_loads_are_equal(case: DatasetCase) -> None:
    """Images and their order are the same each time."""
    first, second = case.load(), case.load()
    same = (first.digest, first.split_digest) == (second.digest, second.split_digest)
    require(same, "two loads must give the same images in the same order; sort the files, and seed what is drawn")
    same = first.test.open("contract").digest == second.test.open("contract").digest
    require(same, "two loads must give the same test images in the same order")


def labels_cover_the_classes(case: DatasetCase) -> None:
    """Every part has every class, labels are int64 in 0..K-1, and the split is called as the row."""
    split = case.load()
    every_class = list(range(split.num_classes))
    parts = {"train": split.train, "val": split.val, "test": split.test.open("contract")}
    for name, images in parts.items():
        require(images.labels_N.dtype == torch.int64, f"labels of {name} must be int64")
        rule = f"{name} must have every class of class_names, 0 to {split.num_classes - 1}"
        require(sorted(set(images.labels_N.tolist())) == every_class, rule)
    require(len(set(split.class_names)) == split.num_classes, "class_names must differ from each other")
    require(split.name == case.name, f"the split must be called {case.name!r}, but is called {split.name!r}")


def the_closed_test_set_is_not_read(case: DatasetCase) -> None:
    """Loading opens no test image."""
    split = case.load()
    try:
        len(split.test)
    except TestSetClosedError:
        require(split.test.looks == [], "the test set must not be opened while the data are loaded")
        return
    require(False, "test must be an icd.data.split.ClosedTest")


def default_views_make_normalised_batches(case: DatasetCase) -> None:
    """The row's augmentation shows all images in its own size, with numbers as mean and std make them."""
    split, row = case.load(), DATASETS[case.name]
    indices = order(0, 1, len(split.train))
    ids = draw(0, 1, indices, row.augmentation.num_views)
    for images, chosen, view_ids in ((split.train, indices, ids), (split.val, np.arange(len(split.val)), None)):
        shown = list(
            batches(
                images,
                indices=chosen,
                view_ids=view_ids,
                views=row.augmentation,
                batch_size=8,
                normaliser=Normaliser(split.mean, split.std, torch.device("cpu"), channels_last=True),
            )
        )
        same = torch.equal(torch.cat([batch.labels_B for batch in shown]), images.labels_N[torch.from_numpy(chosen)])
        require(same, "batches must have the labels of their images")
        sides = {tuple(batch.images_BCHW.shape[1:]) for batch in shown}
        side = row.augmentation.size
        require(sides == {(3, side, side)}, f"views must be 3 x {side} x {side}, but are {sides}")
        # Pixels are in 0..255, so normalised ones lie between -mean / std and (1 - mean) / std.
        low, high = min(b.images_BCHW.min() for b in shown), max(b.images_BCHW.max() for b in shown)
        least = -max(m / s for m, s in zip(split.mean, split.std, strict=True)) - 1e-4
        most = max((1 - m) / s for m, s in zip(split.mean, split.std, strict=True)) + 1e-4
        require(least <= low and high <= most, "mean and std must be of pixels scaled to 0..1")


def the_row_agrees_with_the_data(case: DatasetCase) -> None:
    """What the row says of the images is so."""
    split, row = case.load(), DATASETS[case.name]
    files = isinstance(split.train, FileImages)
    require(row.from_files == files, f"from_files must be {files}")
    if isinstance(split.train, ArrayImages):
        side = split.train.images_NCHW.shape[-1]
        require(row.image_size in (None, side), f"image_size must be {side} or None")
        problem = views_problem(case.name, row.augmentation, side)
        require(problem is None, f"augmentation: {problem}")
    flips = not row.horizontal_flip and getattr(row.augmentation, "flip", False)
    require(not flips, "the augmentation must not flip where horizontal_flip is false")


def the_row_knows_the_classes(case: DatasetCase) -> None:
    """``num_classes`` of the row, if it is given, is that of the data."""
    known, classes = DATASETS[case.name].num_classes, case.load().num_classes
    require(known in (None, classes), f"num_classes must be {classes} or None, but is {known}")


DATASET_CHECKS: tuple[Check[DatasetCase], ...] = (
    train_val_and_test_share_no_image,
    two_loads_are_equal,
    labels_cover_the_classes,
    the_closed_test_set_is_not_read,
    default_views_make_normalised_batches,
    the_row_agrees_with_the_data,
    the_row_knows_the_classes,
)


# Augmentations


def _batch(views: Any, count: int = 3) -> torch.Tensor:
    side = views.source or views.size
    return torch.randint(
        0, 256, (count, 3, side, side), dtype=torch.uint8, generator=torch.Generator().manual_seed(side)
    )


def views_have_their_size(views: Any) -> None:
    """Every view is uint8 of the side that it says, in training and at test time."""
    images_BCSS = _batch(views)
    ids_B = np.array([0, views.num_views - 1, views.num_views // 2])
    require(views.num_views >= 1, "num_views must be at least 1")
    for what, shown in (("apply", views.apply(images_BCSS, ids_B)), ("evaluate", views.evaluate(images_BCSS))):
        wanted = (3, 3, views.size, views.size)
        require(tuple(shown.shape) == wanted, f"{what} must give {wanted}, but gave {tuple(shown.shape)}")
        require(shown.dtype == torch.uint8, f"{what} must give uint8, but gave {shown.dtype}")


def a_view_is_a_function_of_image_and_number(views: Any) -> None:
    """The same number shows the same pixels, alone or in a batch: teachers' answers are kept by image and view."""
    images_BCSS, last = _batch(views), views.num_views - 1
    together = views.apply(images_BCSS, np.array([last] * len(images_BCSS)))
    alone = torch.cat([views.apply(images_BCSS[[n]], np.array([last])) for n in range(len(images_BCSS))])
    require(torch.equal(together, alone), "a view must follow from the image and its number alone; draw nothing inside")


def images_are_left_alone(views: Any) -> None:
    """Showing a view changes no image."""
    images_BCSS = _batch(views)
    views.apply(images_BCSS, np.zeros(len(images_BCSS), dtype=np.int64))
    require(torch.equal(images_BCSS, _batch(views)), "apply must not change the images in place")


VIEWS_CHECKS: tuple[Check[Any], ...] = (
    views_have_their_size,
    a_view_is_a_function_of_image_and_number,
    images_are_left_alone,
)
