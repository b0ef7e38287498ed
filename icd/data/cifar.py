"""CIFAR-10 and CIFAR-100, fetched and read by torchvision: only files with the published checksums are opened."""

import contextlib
from pathlib import Path
from typing import Any

import numpy as np
import torch

from icd.data.images import ArrayImages
from icd.data.split import Request, Rgb, Split, make_split
from icd.errors import DataError
from icd.fields import Count

CIFAR100_MEAN, CIFAR100_STD = (0.5071, 0.4867, 0.4408), (0.2675, 0.2565, 0.2761)
_MISSING = "is missing; run with --download"
_MEAN, _STD = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)  # CIFAR-10's


def load_cifar10(request: Request, *, train_per_class: Count = 5000) -> Split:
    """Load CIFAR-10; ``train_per_class`` keeps the first so many training images of each class for train and val."""
    from torchvision.datasets import CIFAR10

    return _load(request, "cifar10", CIFAR10, train_per_class, _MEAN, _STD)


def load_cifar100(request: Request, *, train_per_class: Count = 500) -> Split:
    """Load CIFAR-100; 26 exact duplicates stay on one side of the split."""
    from torchvision.datasets import CIFAR100

    return _load(request, "cifar100", CIFAR100, train_per_class, CIFAR100_MEAN, CIFAR100_STD)


def _load(request: Request, name: str, source: Any, train_per_class: int, mean: Rgb, std: Rgb) -> Split:
    """Load the training images now and the test images when they are opened; all checksums are compared now."""
    root = request.folder(name, fetchable=True)
    train = _part(root, source, train=True, download=request.download)
    return make_split(
        request,
        name,
        _first_of_each_class(_images(train), train_per_class),
        lambda: _images(_part(root, source, train=False)),
        class_names=train.classes,
        mean=mean,
        std=std,
    )


def _part(root: Path, source: Any, *, train: bool, download: bool = False) -> Any:
    from filelock import FileLock

    # Of two processes that fetch at once, the second finds what the first fetched.
    alone = FileLock(root / f".{source.__name__.lower()}.lock") if download else contextlib.nullcontext()
    try:
        with alone:
            return source(str(root), train=train, download=download)
    except (OSError, RuntimeError) as error:  # no network; a file that is missing, or has another checksum
        file = _wrong_file(root / source.base_folder, source)
        what = "has another checksum; remove it and run with --download" if file.is_file() else _MISSING
        if download:
            what = f"cannot be fetched ({error}); fetch {source.url} and unpack it in {root}, or put it there as it is"
        raise DataError(f"{file}: {what}") from error


def _first_of_each_class(images: ArrayImages, count: int) -> ArrayImages:
    """Keep the first images of each class in the order of the files; all of a class that has no more."""
    labels_N = images.labels_N.numpy()
    kept = [np.flatnonzero(labels_N == label)[:count] for label in np.unique(labels_N)]
    return images.subset(np.sort(np.concatenate(kept)))


def _wrong_file(folder: Path, source: Any) -> Path:
    from torchvision.datasets.utils import check_integrity

    listed = [*source.train_list, *source.test_list, (source.meta["filename"], source.meta["md5"])]
    return next((folder / name for name, md5 in listed if not check_integrity(str(folder / name), md5)), folder)


def _images(part: Any) -> ArrayImages:
    images_NCHW = np.ascontiguousarray(part.data.transpose(0, 3, 1, 2))
    return ArrayImages(torch.from_numpy(images_NCHW), torch.tensor(part.targets, dtype=torch.int64))
