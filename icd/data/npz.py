"""Any images in one NPZ file: ``x_train, y_train, x_test, y_test, class_names``.

Images are uint8 [N, H, W, 3] with H == W, labels integers in ``range(len(class_names))``. Optional: ``mean``
and ``std`` (three numbers each, of pixels scaled to 0..1; CIFAR-100's otherwise).

Shape key:
    N: images    C: colours (3)    H, W: height, width    K: classes
"""

import zipfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch
from numpy.lib import format as npy

from icd.data.cifar import CIFAR100_MEAN, CIFAR100_STD
from icd.data.images import ArrayImages
from icd.data.split import Request, Rgb, Split, make_split
from icd.errors import DataError

_array = partial(npy.read_array, allow_pickle=False)


def load(request: Request) -> Split:
    """Load the NPZ file ``path``; nothing in it is unpickled, and of test arrays only headers are read until opened."""
    file = request.file("npz")
    names_K = _read(file, "class_names")
    right = names_K.dtype.kind == "U" and names_K.ndim == 1 and len(set(names_K.tolist())) == len(names_K) > 0
    _require(right, file, "class_names", "must be strings [K], different from each other", names_K)
    images = _images(file, "train", len(names_K))
    side, test_side = images.images_NCHW.shape[2], _side(file, "test")
    _require(test_side == side, file, "x_test", f"images must have x_train's side {side}", test_side)
    mean, std = _rgb(file, "mean"), _rgb(file, "std")
    return make_split(
        request,
        "npz",
        images,
        lambda: _images(file, "test", len(names_K)),
        class_names=names_K.tolist(),
        mean=mean or CIFAR100_MEAN,
        std=std or CIFAR100_STD,
        more=[f"{name} {values}" for name, values in (("mean", mean), ("std", std)) if values],
    )


def _images(file: Path, part: str, num_classes: int) -> ArrayImages:
    _side(file, part)
    images_NHWC, labels_N = _read(file, f"x_{part}"), _read(file, f"y_{part}")
    wrong_N = labels_N[(labels_N < 0) | (labels_N >= num_classes)]
    rule = f"labels must be in 0..{num_classes - 1} (class_names has {num_classes})"
    _require(not len(wrong_N), file, f"y_{part}", rule, "".join(map(str, wrong_N[:1])))
    images_NCHW = np.ascontiguousarray(images_NHWC.transpose(0, 3, 1, 2))
    return ArrayImages(torch.from_numpy(images_NCHW), torch.from_numpy(labels_N.astype(np.int64)))


def _side(file: Path, part: str) -> int:
    """Check types and shapes of a part, of which only headers are read; gives the side of its images."""
    dtype, shape = _read(file, f"x_{part}", _header)
    good = dtype == np.uint8 and len(shape) == 4 and shape[3] == 3 and shape[1] == shape[2] and 0 not in shape
    _require(good, file, f"x_{part}", "must be uint8 [N, H, W, 3] with H == W", f"{dtype} {list(shape)}")
    dtype, sizes = _read(file, f"y_{part}", _header)
    good, rule = dtype.kind in "iu" and sizes == shape[:1], f"must be integers [{shape[0]}], one for each image"
    _require(good, file, f"y_{part}", rule, f"{dtype} {list(sizes)}")
    return int(shape[1])


def _rgb(file: Path, name: str) -> Rgb | None:
    with zipfile.ZipFile(file) as archive:
        if f"{name}.npy" not in archive.namelist():
            return None
    values_C = _read(file, name)
    good = values_C.dtype.kind == "f" and values_C.shape == (3,) and bool(((values_C > 0) & (values_C < 1)).all())
    _require(good, file, name, "must be three floats in 0..1", values_C)
    red, green, blue = values_C.tolist()
    return red, green, blue


def _header(member: IO[bytes]) -> tuple[np.dtype[Any], tuple[int, ...]]:
    read = npy.read_array_header_1_0 if npy.read_magic(member) == (1, 0) else npy.read_array_header_2_0
    shape, _, dtype = read(member)
    return dtype, shape


def _read(file: Path, name: str, read: Callable[[IO[bytes]], Any] = _array) -> Any:
    try:
        with zipfile.ZipFile(file) as archive, archive.open(f"{name}.npy") as member:
            return read(member)
    except KeyError as error:
        raise DataError(f"{file}: array {name!r} is missing; write it with numpy.savez({name}=...)") from error
    except Exception as error:  # a broken, encrypted or oddly compressed archive raises anything
        raise DataError(f"{file}: array {name!r} cannot be read ({error}); write it with numpy.savez") from error


def _require(holds: bool, file: Path, name: str, rule: str, value: object) -> None:
    if not holds:
        told = value.tolist() if isinstance(value, np.ndarray) else value
        raise DataError(f"{file}: array {name!r}: {rule}, but got {told}; write the file again")
