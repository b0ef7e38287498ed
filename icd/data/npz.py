"""Any images in one NPZ file: ``x_train, y_train, x_test, y_test, class_names``.

Images are uint8 [N, H, W, 3] with H == W, labels integers in ``range(len(class_names))``. Optional: ``coarse_of_fine``
(superclass of each class), ``mean`` and ``std`` (three numbers each, of pixels scaled to 0..1; CIFAR-100's otherwise).

Shape key:
    N: images    C: colours (3)    H, W: height, width    K: classes
"""

import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch
from numpy.lib import format as npy
from numpy.typing import NDArray

from icd.data.dataset import CIFAR100_MEAN, CIFAR100_STD, Request
from icd.data.images import ArrayImages
from icd.data.split import Rgb, Split, make_split
from icd.errors import DataError

_UNREADABLE = (OSError, ValueError, EOFError, MemoryError, zipfile.BadZipFile, zlib.error)


def load(request: Request) -> Split:
    """Load an NPZ file; nothing in it is unpickled, and of the test arrays only the headers are read until opened.

    Args:
        request: ``path`` names the file.
    """
    file = request.file("npz")
    class_names = tuple(str(name) for name in _class_names(file))
    images = _images(file, "train", len(class_names))
    side = int(images.images_NCHW.shape[2])
    _check_test_headers(file, side)
    return make_split(
        request,
        "npz",
        images,
        lambda: _images(file, "test", len(class_names)),
        class_names=class_names,
        superclasses=_superclasses(file, len(class_names)),
        mean=_rgb(file, "mean", CIFAR100_MEAN),
        std=_rgb(file, "std", CIFAR100_STD),
    )


def _images(file: Path, part: str, num_classes: int) -> ArrayImages:
    images_NHWC, labels_N = _read(file, f"x_{part}"), _read(file, f"y_{part}")
    _check_images(file, f"x_{part}", images_NHWC.dtype, images_NHWC.shape)
    _check_labels(file, f"y_{part}", labels_N.dtype, labels_N.shape, len(images_NHWC))
    if labels_N.min() < 0 or labels_N.max() >= num_classes:
        wrong = int(labels_N[(labels_N < 0) | (labels_N >= num_classes)][0])
        raise _error(
            file,
            f"y_{part}",
            f"labels must be in 0..{num_classes - 1} (class_names has {num_classes})",
            wrong,
        )
    images_NCHW = np.ascontiguousarray(images_NHWC.transpose(0, 3, 1, 2))
    return ArrayImages(torch.from_numpy(images_NCHW), torch.from_numpy(labels_N.astype(np.int64)))


def _check_test_headers(file: Path, side: int) -> None:
    """Find a wrong test array now and not at the end of a sweep, without reading its values."""
    x_dtype, x_shape = _header(file, "x_test")
    _check_images(file, "x_test", x_dtype, x_shape)
    if x_shape[1] != side:
        raise _error(file, "x_test", f"images must have x_train's side {side}", x_shape)
    _check_labels(file, "y_test", *_header(file, "y_test"), x_shape[0])


def _check_images(file: Path, name: str, dtype: np.dtype[Any], shape: tuple[int, ...]) -> None:
    if dtype != np.uint8 or len(shape) != 4 or shape[3] != 3 or shape[1] != shape[2] or 0 in shape:
        raise _error(file, name, "must be uint8 [N, H, W, 3] with H == W", f"{dtype} {list(shape)}")


def _check_labels(file: Path, name: str, dtype: np.dtype[Any], shape: tuple[int, ...], num_images: int) -> None:
    if dtype.kind not in "iu" or shape != (num_images,):
        raise _error(file, name, f"must be integers [{num_images}], one for each image", f"{dtype} {list(shape)}")


def _class_names(file: Path) -> NDArray[np.str_]:
    names_K = _read(file, "class_names")
    if names_K.dtype.kind != "U" or names_K.ndim != 1 or not len(names_K):
        raise _error(file, "class_names", "must be strings [K]", f"{names_K.dtype} {list(names_K.shape)}")
    if len(set(names_K.tolist())) < len(names_K):
        raise _error(file, "class_names", "must be different from each other", names_K.tolist())
    return names_K


def _superclasses(file: Path, num_classes: int) -> tuple[int, ...] | None:
    if not _has(file, "coarse_of_fine"):
        return None
    coarse_K = _read(file, "coarse_of_fine")
    if coarse_K.dtype.kind not in "iu" or coarse_K.shape != (num_classes,):
        rule = f"must be integers [{num_classes}], one for each class"
        raise _error(file, "coarse_of_fine", rule, f"{coarse_K.dtype} {list(coarse_K.shape)}")
    return tuple(int(superclass) for superclass in coarse_K)


def _rgb(file: Path, name: str, default: Rgb) -> Rgb:
    if not _has(file, name):
        return default
    values_C = _read(file, name)
    if values_C.dtype.kind != "f" or values_C.shape != (3,) or not ((values_C > 0) & (values_C < 1)).all():
        raise _error(file, name, "must be three floats in 0..1", values_C.tolist())
    red, green, blue = values_C.tolist()
    return red, green, blue


def _has(file: Path, name: str) -> bool:
    try:
        with zipfile.ZipFile(file) as archive:
            return f"{name}.npy" in archive.namelist()
    except _UNREADABLE as error:
        raise DataError(f"{file}: not a readable NPZ file ({error}); write it with numpy.savez") from error


@contextmanager
def _member(file: Path, name: str) -> Iterator[IO[bytes]]:
    try:
        with zipfile.ZipFile(file) as archive, archive.open(f"{name}.npy") as member:
            yield member
    except KeyError as error:
        raise DataError(f"{file}: array {name!r} is missing; write it with numpy.savez({name}=...)") from error
    except _UNREADABLE as error:
        raise DataError(f"{file}: array {name!r} cannot be read ({error}); write the file again") from error


def _read(file: Path, name: str) -> NDArray[Any]:
    with _member(file, name) as member:
        return np.asarray(npy.read_array(member, allow_pickle=False))


def _header(file: Path, name: str) -> tuple[np.dtype[Any], tuple[int, ...]]:
    with _member(file, name) as member:
        version = npy.read_magic(member)
        read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
        shape, _, dtype = read(member)
        return dtype, shape


def _error(file: Path, name: str, rule: str, value: object) -> DataError:
    return DataError(f"{file}: array {name!r}: {rule}, but got {value}; write the file again")
