"""Sets of labelled images: uint8 in memory, or files decoded when they are shown.

Shape key:
    N: images    C: colours (3)    H, W: height, width
"""

import hashlib
import os
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from icd.data.decode import decode_rgb, pixels, stretched
from icd.errors import DataError, require
from icd.machine import free_memory

if TYPE_CHECKING:
    from PIL.Image import Image

    from icd.data.views import ViewFamily

_FULLY_COMPARED = 100_000  # at most this many files are read to find exact duplicates
_MOST_HELD = 4 * 10**9  # bytes; CUB-200's training images take 1.2e9
_HELD_SHARE = 4  # at most one part in four of what is free, because trials share a machine
Told = Callable[[], None]
_told: ContextVar[Told] = ContextVar("told", default=lambda: None)


@contextmanager
def telling(told: Told) -> Iterator[None]:
    """Have ``told`` called within this block after each file that is found, read or decoded."""
    token = _told.set(told)
    try:
        yield
    finally:
        _told.reset(token)


def tell() -> None:
    """Say that reading a data set gets on; a network disk may take minutes for all of its files."""
    _told.get()()


@dataclass(frozen=True, eq=False)
class ArrayImages:
    """Images of one size held in memory, on any device.

    Args:
        images_NCHW: uint8 [N, 3, H, W].
        labels_N: int64 [N].
    """

    images_NCHW: Tensor
    labels_N: Tensor
    skipped: ClassVar[str] = ""  # nothing lies beside them

    def __post_init__(self) -> None:
        shape, dtype = tuple(self.images_NCHW.shape), self.images_NCHW.dtype
        right = dtype == torch.uint8 and len(shape) == 4 and shape[1] == 3
        require(right, "images uint8 [N, 3, H, W]", (dtype, shape))
        require(self.labels_N.dtype == torch.int64, "labels int64", self.labels_N.dtype)
        require(self.labels_N.shape == shape[:1], f"one label for each of {shape[0]} images", self.labels_N.shape)

    def __len__(self) -> int:
        return len(self.labels_N)

    @cached_property
    def digest(self) -> str:
        """SHA-256 of shape, pixels and labels."""
        sha = hashlib.sha256(repr(tuple(self.images_NCHW.shape)).encode())
        sha.update(np.ascontiguousarray(self.images_NCHW.cpu().numpy()).data)
        sha.update(self.labels_N.cpu().numpy().astype("<i8").data)
        return sha.hexdigest()

    def subset(self, indices: ArrayLike) -> "ArrayImages":
        """Give the images at ``indices``, in that order."""
        index_n = torch.as_tensor(np.asarray(indices, dtype=np.int64), device=self.images_NCHW.device)
        return ArrayImages(self.images_NCHW[index_n], self.labels_N[index_n.to(self.labels_N.device)])

    def with_images(self, other: "ArrayImages") -> "ArrayImages":
        """Give these images and, after them, those of another set."""
        sets = (self, other.to(self.images_NCHW.device))
        return ArrayImages(torch.cat([one.images_NCHW for one in sets]), torch.cat([one.labels_N for one in sets]))

    def to(self, device: torch.device | str) -> "ArrayImages":
        """Give the same images on ``device``; resident on a GPU they need no loader at all."""
        return ArrayImages(self.images_NCHW.to(device), self.labels_N.to(device))

    def held(self, views: "ViewFamily", device: torch.device, threads: int) -> "ArrayImages":
        """Give the same images on ``device``: they are in memory already."""
        return self.to(device)


@dataclass(frozen=True, eq=False)
class FileImages:
    """Image files below a root, decoded with Pillow when they are shown.

    Args:
        root: Folder the names are relative to.
        names: Relative paths with forward slashes, length N.
        sizes_N: File sizes in bytes, int64 [N].
        labels_N: int64 [N].
        skipped: What was found beside them and left out, for people; empty where nothing was.
    """

    root: Path
    names: tuple[str, ...]
    sizes_N: NDArray[np.int64]
    labels_N: Tensor
    skipped: str = ""
    _held: "dict[tuple[int, bool, torch.device], ArrayImages]" = field(default_factory=dict, repr=False)
    _holding: threading.Lock = field(default_factory=threading.Lock, repr=False)

    @classmethod
    def found(cls, root: Path, names: Sequence[str], labels: ArrayLike, skipped: str = "") -> "FileImages":
        """Look the files up; one that is missing, empty or named in other bytes than UTF-8 is a ``DataError``."""
        sizes = []
        for name in names:
            try:
                name.encode()
                sizes.append((root / name).stat().st_size)
            except UnicodeEncodeError as error:
                got = os.fsencode(name)
                raise DataError(f"{root}: file names must be UTF-8, but got {got!r}; rename it") from error
            except OSError as error:
                raise DataError(f"{root / name}: the file list names it, but it is not there; unpack again") from error
            if not sizes[-1]:
                raise DataError(f"{root / name}: the image file is empty; unpack or copy it again")
            tell()
        labels_N = torch.as_tensor(np.asarray(labels, dtype=np.int64))
        return cls(root, tuple(names), np.array(sizes, dtype=np.int64), labels_N, skipped)

    def __len__(self) -> int:
        return len(self.names)

    @cached_property
    def digest(self) -> str:
        """SHA-256 of relative path, size and label of each file, and of its bytes where ``contents`` has them.

        So a file whose size no other has may be replaced by another of that size unnoticed.
        """
        sha, facts = hashlib.sha256(), (self.names, self.sizes_N.tolist(), self.labels_N.tolist(), self.contents)
        for name, size, label, content in zip(*facts, strict=True):
            sha.update(f"{name}\0{size}\0{label}\0{content}\n".encode())
        return sha.hexdigest()

    @cached_property
    def contents(self) -> tuple[str, ...]:
        """BLAKE2b of each file that has the size of another, length N; empty for the others, which are not read.

        Beyond 100,000 of those (ImageNet) no file is read, because reading all of it would take hours.
        """
        sized = list(zip(self.names, self.sizes_N.tolist(), strict=True))
        compared = {size for size, count in Counter(size for _, size in sized).items() if count > 1}
        if sum(size in compared for _, size in sized) > _FULLY_COMPARED:
            return ("",) * len(self)
        return tuple(_content_digest(self.root / name) if size in compared else "" for name, size in sized)

    def subset(self, indices: ArrayLike) -> "FileImages":
        index_n = np.asarray(indices, dtype=np.int64)
        names = tuple(self.names[index] for index in index_n.tolist())
        return FileImages(self.root, names, self.sizes_N[index_n], self.labels_N[torch.from_numpy(index_n)])

    def with_images(self, other: "FileImages") -> "FileImages":
        sizes_N = np.concatenate([self.sizes_N, other.sizes_N])
        return FileImages(self.root, self.names + other.names, sizes_N, torch.cat([self.labels_N, other.labels_N]))

    def to(self, device: torch.device | str) -> "FileImages":
        """Give itself: the pixels of files travel batch by batch."""
        return self

    def source(self, index: int, views: "ViewFamily") -> "Image":
        """Decode one file to RGB; a broken one, or one of another size than views that do not resize show, is told."""
        file, side = self.root / self.names[index], views.source
        image = decode_rgb(file)
        if views.resizes or image.size == (side, side):
            return image
        rule = f"must be {side} x {side} for views that do not resize, but got {image.width} x {image.height}"
        raise DataError(f"{file}: {rule}; take crop_flip with resize, or resize the file")

    def held(self, views: "ViewFamily", device: torch.device, threads: int) -> "ImageSet":
        """Give the images in memory, on a device, where the views bring all to one square and there is room.

        They are decoded once for all trials of this process. The pixels are those that files would show.
        """
        side = views.source
        if side is None:
            return self
        with self._holding:
            key = side, views.resizes, device
            free = torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else free_memory()
            if key not in self._held and 3 * side * side * len(self) <= min(_MOST_HELD, free // _HELD_SHARE):
                self._held.clear()  # one copy at a time
                self._held[key] = decoded(self, views, threads).to(device)
            return self._held.get(key, self)


ImageSet = ArrayImages | FileImages  # labelled images in a fixed order


def decoded(files: FileImages, views: "ViewFamily", threads: int = 8) -> ArrayImages:
    """Decode files into memory as the squares that views begin with, with threads (Pillow releases the GIL)."""
    side = views.source
    assert side is not None, "views of each image's own size cannot be shown from memory"
    images_NCHW = np.empty((len(files), 3, side, side), dtype=np.uint8)

    def decode_into(index: int) -> None:
        images_NCHW[index] = pixels(stretched(files.source(index, views), side))

    with ThreadPoolExecutor(max(1, threads)) as pool:
        for _ in pool.map(decode_into, range(len(files))):
            tell()
    return ArrayImages(torch.from_numpy(images_NCHW), files.labels_N)


def pixel_groups(images: ArrayImages) -> NDArray[np.int64]:
    """Give images with the same pixels the same number: int64 [N], numbers in order of first appearance."""
    return _numbered(np.ascontiguousarray(image).data for image in images.images_NCHW.cpu().numpy())


def file_groups(files: FileImages) -> NDArray[np.int64]:
    """Give files with the same bytes the same number, as far as they were read: int64 [N]."""
    return _numbered((content or name).encode() for name, content in zip(files.names, files.contents, strict=True))


def _content_digest(file: Path) -> str:
    tell()
    try:
        return hashlib.blake2b(file.read_bytes(), digest_size=16).hexdigest()
    except OSError as error:
        raise DataError(f"{file}: cannot be read ({error.strerror}); restore or remove the file") from error


def _numbered(contents: Iterable[Any]) -> NDArray[np.int64]:
    seen: dict[bytes, int] = {}
    keys = (hashlib.blake2b(content, digest_size=16).digest() for content in contents)
    return np.array([seen.setdefault(key, len(seen)) for key in keys], dtype=np.int64)
