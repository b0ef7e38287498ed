"""Data sets, their division into train, val and a closed test set, and their views.

``DATASETS`` is the list of data sets; adding one means writing its loader and its row here.
"""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from icd.data import cifar, digits100, folders, npz
from icd.data.split import Request, Split
from icd.data.views import CropFlip, ViewFamily
from icd.data.warps import RandomResizedCrop, RotateFlip
from icd.errors import Problem
from icd.registry import Registry

__all__ = ["DATASETS", "DatasetRow", "Request", "Split", "views_problem"]


@dataclass(frozen=True, slots=True, kw_only=True)
class DatasetRow:
    """One row of ``DATASETS``: how to load, and the defaults that a training or a user may override."""

    load: Callable[..., Split]  # load(request, **options); a DataError where files are missing or wrong
    summary: str
    # look(request): a DataError where the files are plainly not there; it reads none of them
    look: Callable[[Request], object] = lambda request: None
    num_classes: int | None = None  # None: as many as the files have
    image_size: int | None = None  # of images held in memory, where it is known; None: as the files say
    from_files: bool = False  # whether images are files of any size, decoded when they are shown
    augmentation: ViewFamily = field(default=CropFlip(size=32, pad=4))
    preset: str = "cifar100"  # the training of the papers, a table of config/presets.toml
    needs_path: bool = False
    horizontal_flip: bool = True  # whether a mirrored image keeps its class

    @property
    def options(self) -> Mapping[str, Any]:
        """The data set's own options with their defaults, read off its loader."""
        parameters = list(inspect.signature(self.load).parameters.values())
        return {parameter.name: parameter.default for parameter in parameters[1:]}


DATASETS: Registry[DatasetRow] = Registry(
    "data set",
    {
        "digits100": DatasetRow(
            load=digits100.load,
            summary="two-digit numbers in colour, 100 classes of 32 x 32, made on the spot: no download",
            num_classes=100,
            image_size=32,
            augmentation=CropFlip(size=32, pad=2, flip=False),
            preset="digits100",
            horizontal_flip=False,
        ),
        "cifar10": DatasetRow(
            load=cifar.load_cifar10,
            look=partial(Request.folder, name="cifar10", fetchable=True),
            summary="60,000 photographs of 32 x 32, 10 classes; can be downloaded",
            num_classes=10,
            image_size=32,
        ),
        "cifar100": DatasetRow(
            load=cifar.load_cifar100,
            look=partial(Request.folder, name="cifar100", fetchable=True),
            summary="60,000 photographs of 32 x 32, 100 classes; can be downloaded",
            num_classes=100,
            image_size=32,
        ),
        "tiny_imagenet": DatasetRow(
            load=folders.load_tiny_imagenet,
            look=partial(Request.file_or_folder, name="tiny_imagenet"),
            summary="Tiny-ImageNet: 64 x 64, up to 200 classes; its official val is the test set",
            image_size=64,
            augmentation=RotateFlip(size=64),
            preset="tiny_imagenet",
        ),
        "cub200": DatasetRow(
            load=folders.load_cub200,
            look=partial(Request.folder, name="cub200"),
            summary="CUB-200-2011: photographs of birds, shown at 224 x 224",
            from_files=True,
            augmentation=CropFlip(size=224, resize=256),
            preset="cub200",
        ),
        "imagefolder": DatasetRow(
            load=folders.load_imagefolder,
            look=partial(Request.file_or_folder, name="imagefolder"),
            summary="class folders train/CLASS/* and test/CLASS/* or val/CLASS/* (ImageNet)",
            from_files=True,
            augmentation=RandomResizedCrop(size=224),
            preset="imagenet",
        ),
        "npz": DatasetRow(
            load=npz.load,
            look=partial(Request.file, name="npz"),
            summary="one NPZ file: x_train, y_train, x_test, y_test (uint8 NHWC), class_names",
            needs_path=True,
        ),
    },
)


def views_problem(name: str, views: ViewFamily, side: int | None) -> Problem | None:
    """Say why views cannot show the images of a data set held in memory, ``side`` pixels wide where that is known."""
    if views.source is None:
        rule, hint = f"images of {name} are held in memory, and these views show image files only", "crop_flip"
    elif side is not None and not views.resizes and views.source != side:
        rule, hint = f"images of {name} are {side} x {side}, which these views do not resize", "that size, or crop_flip"
    else:
        return None
    return Problem(rule=rule, value=views.size, hint=f"take {hint} with resize")
