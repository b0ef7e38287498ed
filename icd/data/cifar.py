"""CIFAR-10 and CIFAR-100 from their original Python batches, without letting a pickle do anything but hold numbers.

Shape key:
    N: images    K: classes
"""

import hashlib
import pickle
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from icd.data.dataset import CIFAR100_MEAN, CIFAR100_STD, Request
from icd.data.images import ArrayImages
from icd.data.split import Rgb, Split, make_split
from icd.errors import DataError

_NUMPY_MODULES = ("numpy.core.multiarray", "numpy._core.multiarray")  # before and since NumPy 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """Where the parts of one CIFAR lie and what they are called."""

    name: str
    folder: str
    train: tuple[str, ...]
    test: str
    meta: str
    labels: str  # key of the labels in a batch
    coarse: str | None  # key of the superclasses in a batch
    class_names: str  # key of the names in the meta file
    mean: Rgb
    std: Rgb
    md5: Mapping[str, str]  # of each file; the sums torchvision checks too


CIFAR10 = Layout(
    name="cifar10",
    folder="cifar-10-batches-py",
    train=("data_batch_1", "data_batch_2", "data_batch_3", "data_batch_4", "data_batch_5"),
    test="test_batch",
    meta="batches.meta",
    labels="labels",
    coarse=None,
    class_names="label_names",
    mean=(0.4914, 0.4822, 0.4465),
    std=(0.2470, 0.2435, 0.2616),
    md5={
        "data_batch_1": "c99cafc152244af753f735de768cd75f",
        "data_batch_2": "d4bba439e000b95fd0a9bffe97cbabec",
        "data_batch_3": "54ebc095f3ab1f0389bbae665268c751",
        "data_batch_4": "634d18415352ddfa80567beed471001a",
        "data_batch_5": "482c414d41f54cd18b22e5b47cb7c3cb",
        "test_batch": "40351d587109b95175f43aff81a1287e",
        "batches.meta": "5ff9c542aee3614f3951f8cda6e48888",
    },
)
CIFAR100 = Layout(
    name="cifar100",
    folder="cifar-100-python",
    train=("train",),
    test="test",
    meta="meta",
    labels="fine_labels",
    coarse="coarse_labels",
    class_names="fine_label_names",
    mean=CIFAR100_MEAN,
    std=CIFAR100_STD,
    md5={
        "train": "16019d7e3df5f24257cddd939b257f8d",
        "test": "f0ef6b0ae62326f3e7ffdfab6717acfc",
        "meta": "7973b15100ade9c7d40fb424638fde48",
    },
)


def load_cifar10(request: Request) -> Split:
    """Load CIFAR-10."""
    return load(request, CIFAR10)


def load_cifar100(request: Request) -> Split:
    """Load CIFAR-100; superclasses are its 20 coarse labels, 26 exact duplicates stay on one side of the split."""
    return load(request, CIFAR100)


def load(request: Request, layout: Layout) -> Split:
    """Load the train batches now and the test batch when it is opened; its checksum is compared now."""
    if request.download:
        _download(request, layout)
    root = request.folder(layout.name)
    folder = root / layout.folder
    for name in (*layout.train, layout.test, layout.meta):
        _check(folder / name, layout)
    meta = read_pickle(folder / layout.meta)
    class_names = tuple(str(name) for name in meta.get(layout.class_names, ()))
    parts = [_read_batch(folder / name, layout, len(class_names)) for name in layout.train]
    return make_split(
        layout.name,
        _joined([part[0] for part in parts]),
        lambda: _read_batch(folder / layout.test, layout, len(class_names))[0],
        class_names=class_names,
        superclasses=_superclasses(parts, len(class_names)) if layout.coarse else None,
        mean=layout.mean,
        std=layout.std,
        image_size=32,
        val_share=request.val_share,
        split_seed=request.split_seed,
    )


def _download(request: Request, layout: Layout) -> None:
    from filelock import FileLock
    from torchvision.datasets import CIFAR10 as TORCHVISION_10
    from torchvision.datasets import CIFAR100 as TORCHVISION_100

    if request.root is None:
        raise DataError(f"{layout.name}: no data folder to download into; pass --data-root or set ICD_DATA")
    try:
        with FileLock(request.root / f".{layout.name}.lock"):  # of two at once the second finds what the first fetched
            (TORCHVISION_10 if layout.name == "cifar10" else TORCHVISION_100)(str(request.root), download=True)
    except (OSError, RuntimeError) as error:  # no network; a checksum that differs
        raise DataError(f"{layout.name}: download to {request.root} failed ({error}); put the files there") from error


def _check(file: Path, layout: Layout) -> None:
    if not file.is_file():
        raise DataError(f"{layout.name}: {file} is missing; run with --download or put the files there")
    found = hashlib.md5(file.read_bytes(), usedforsecurity=False).hexdigest()
    if found != layout.md5[file.name]:
        rule = f"md5 must be {layout.md5[file.name]}, but got {found}"
        raise DataError(f"{file}: {rule}; the file is damaged or another one, remove it and download again")


class _NumbersOnly(pickle.Unpickler):
    """Builds NumPy arrays and built-in containers; every other name is refused before anything of it runs."""

    def find_class(self, module: str, name: str) -> Callable[..., Any]:
        if module in _NUMPY_MODULES and name == "_reconstruct":
            # By way of an array's own reduction, because importing the old module name warns.
            rebuild: Callable[..., Any] = np.empty(0).__reduce__()[0]  # type: ignore[assignment]
            return rebuild
        if module == "numpy" and name in ("ndarray", "dtype"):
            return np.ndarray if name == "ndarray" else np.dtype
        raise pickle.UnpicklingError(f"not a plain data file (needs {module}.{name})")


def read_pickle(file: Path) -> dict[str, Any]:
    """Read a dictionary of numbers, arrays, texts and lists; a pickle that needs more is a ``DataError``."""
    try:
        with file.open("rb") as stream:
            content = _NumbersOnly(stream, encoding="latin1").load()
    except Exception as error:  # a broken pickle raises anything
        raise DataError(f"{file}: cannot be read ({error}); remove it and download again") from error
    if not isinstance(content, dict):
        raise DataError(f"{file}: must hold a dictionary, but got {type(content).__name__}; download it again")
    return content


def _read_batch(file: Path, layout: Layout, num_classes: int) -> tuple[ArrayImages, NDArray[np.int64]]:
    """Give the images of a batch and their superclasses (empty where there are none)."""
    batch = read_pickle(file)
    pixels, labels = batch.get("data"), batch.get(layout.labels)
    if not isinstance(pixels, np.ndarray) or pixels.dtype != np.uint8 or pixels.ndim != 2 or pixels.shape[1] != 3072:
        raise DataError(f"{file}: 'data' must be uint8 [N, 3072], but got {getattr(pixels, 'shape', pixels)!r}")
    labels_N = _integers(file, layout.labels, labels, len(pixels))
    if len(labels_N) and not 0 <= labels_N.min() <= labels_N.max() < num_classes:
        raise DataError(f"{file}: labels must be in 0..{num_classes - 1}, but got {labels_N.min()}..{labels_N.max()}")
    coarse_N = _integers(file, layout.coarse, batch.get(layout.coarse), len(pixels)) if layout.coarse else labels_N[:0]
    images_NCHW = np.ascontiguousarray(pixels.reshape(-1, 3, 32, 32))
    return ArrayImages(torch.from_numpy(images_NCHW), torch.from_numpy(labels_N)), coarse_N


def _integers(file: Path, key: str, values: object, count: int) -> NDArray[np.int64]:
    if not isinstance(values, list) or len(values) != count or not all(type(value) is int for value in values):
        raise DataError(f"{file}: {key!r} must be a list of {count} integers; download the file again")
    return np.array(values, dtype=np.int64)


def _joined(parts: Sequence[ArrayImages]) -> ArrayImages:
    return ArrayImages(torch.cat([part.images_NCHW for part in parts]), torch.cat([part.labels_N for part in parts]))


def _superclasses(parts: Sequence[tuple[ArrayImages, NDArray[np.int64]]], num_classes: int) -> tuple[int, ...]:
    coarse_K = np.zeros(num_classes, dtype=np.int64)
    for images, coarse_N in parts:
        coarse_K[images.labels_N.numpy()] = coarse_N
    return tuple(coarse_K.tolist())
