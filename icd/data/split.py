"""A data set as experiments see it: training and validation images, and a test set that stays closed until asked for.

Shape key:
    N: images    K: classes
"""

import hashlib
import logging
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
from numpy.typing import ArrayLike, NDArray

from icd.data import counter
from icd.data.images import ArrayImages, FileImages, ImageSet, file_groups, pixel_groups
from icd.errors import DataError, TestSetClosedError, require

logger = logging.getLogger(__name__)

Rgb = tuple[float, float, float]
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """Where a data set lies and how it is divided."""

    root: Path | None  # the data folder (--data-root, ICD_DATA); None: one in the user's cache
    path: str | None  # for data sets that are "some file" or "some folder"; relative to root
    val_fraction: float  # share of the training images to validate on, in (0, 0.5]
    split_seed: int  # of that choice
    download: bool = False  # whether missing files may be fetched (CIFAR only)

    def folder(self, name: str, *, fetchable: bool = False) -> Path:
        """Give the data folder, or say that it is missing; whatever can be fetched makes it."""
        import platformdirs  # here, because bench/gpu_step.py runs with torch and NumPy alone

        root = self.root or platformdirs.user_cache_path("icd") / "data"
        if not root.is_dir() and not (fetchable and self.download):
            fetch = "run with --download, or " if fetchable else ""
            missing = f"{name}: the data folder {root} is not there; {fetch}pass --data-root or set ICD_DATA"
            raise DataError(missing, "data")
        return root

    def file(self, name: str) -> Path:
        """Give the file or folder that ``path`` names, or say that it is missing."""
        if not self.path:
            raise DataError(f"{name}: needs `path`; set data.path to its file or folder", "data")
        where = (self.root or Path()) / self.path
        if not where.exists():
            raise DataError(f"{name}: {where} does not exist; correct data.path or --data-root", "data.path")
        return where

    def file_or_folder(self, name: str) -> Path:
        """Give what ``path`` names, or without one the data folder, or say that it is missing."""
        return self.file(name) if self.path else self.folder(name)


class ClosedTest:
    """Test images that nothing can read by accident; ``open`` says why and is counted.

    The loader runs at ``open`` and not before, so closed test images are not even decoded.
    """

    def __init__(self, load: Callable[[], ImageSet], *, sealed: str = "") -> None:
        self._load, self._sealed = load, sealed
        self.looks: list[str] = []  # the purposes it was opened for in this process, in order

    def seal(self, reason: str) -> "ClosedTest":
        """Give a test set that nobody can open, and that says why; it does not even know where the images are."""
        require(bool(reason.strip()), "reason must say why the test set is sealed", reason)
        return ClosedTest(ClosedTest._refuse, sealed=reason)

    def open(self, purpose: str) -> ImageSet:
        """Load the test images, for a purpose that goes into the log and into ``looks``."""
        if self._sealed:
            raise TestSetClosedError(f"the test set is sealed: {self._sealed}, but {purpose!r} wanted to open it")
        require(bool(purpose.strip()), "purpose must say what the test set is opened for", purpose)
        self.looks.append(purpose)
        logger.info("test set opened (look %d): %s", len(self.looks), purpose)
        return self._load()

    @staticmethod
    def _refuse(*_: object) -> NoReturn:
        rule = "the test set is closed; choose on the validation images and call open(purpose) once at the end"
        raise TestSetClosedError(rule)

    def __getattr__(self, name: str) -> NoReturn:
        if name.startswith("__"):  # copy, pickle and inspect ask for these and expect this answer
            raise AttributeError(name)
        self._refuse()

    __len__ = __bool__ = __iter__ = __getitem__ = __contains__ = _refuse


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Split:
    """One data set, divided. ``train.digest`` identifies the very images trained on, in their order."""

    name: str
    train: ImageSet
    val: ImageSet
    test: ClosedTest
    class_names: tuple[str, ...]
    mean: Rgb  # of pixels scaled to 0..1
    std: Rgb
    digest: str  # of all images open to training and validation, however they are divided
    split_digest: str  # of the choice of validation images
    notes: tuple[str, ...] = ()  # what a user should know of how the files were read

    @property
    def num_classes(self) -> int:
        """How many classes there are."""
        return len(self.class_names)


def for_trial(split: Split, train_on: str, measure_on: str, purpose: str) -> Split:
    """Give what a trial trains on as ``train`` and what it is measured on as ``val``; the test set is sealed.

    Where ``measure_on`` is ``test``, it is opened first, for this purpose.
    """
    measured = split.test.open(purpose) if measure_on == "test" else split.val
    sealed = split.test.seal(f"{purpose} is measured on {measure_on} images")
    return replace(for_training(split, train_on), val=measured, test=sealed)


def for_training(split: Split, train_on: str) -> Split:
    """Give the same split with what is trained on as ``train``; the test set stays closed."""
    train: Any = split.train  # of the kind that val is
    return split if train_on == "train" else replace(split, train=train.with_images(split.val))


def make_split(
    request: Request,
    name: str,
    images: ArrayImages | FileImages,
    test: Callable[[], ImageSet],
    class_names: Sequence[str],
    *,
    mean: Rgb = IMAGENET_MEAN,
    std: Rgb = IMAGENET_STD,
    more: Sequence[str] = (),
) -> Split:
    """Divide the images open to training into train and val; duplicates stay on one side.

    ``more`` is what else belongs to the digest: what the files themselves say of how their images are shown.

    Raises:
        DataError: If a class has no image to train on, or no image is left to validate on.
    """
    labels_N = images.labels_N.cpu().numpy()
    counts_K = np.bincount(labels_N, minlength=len(class_names))
    if not counts_K.all():
        raise DataError(
            f"{name}: class {class_names[int(counts_K.argmin())]!r} has no training image; every class needs one"
        )
    groups_N = pixel_groups(images) if isinstance(images, ArrayImages) else file_groups(images)
    train_n, val_m = stratified_split(labels_N, groups_N, val_fraction=request.val_fraction, seed=request.split_seed)
    if not len(val_m):
        rule = "needs two different images in a class at least, or none is left to validate on"
        raise DataError(f"{name}: {rule}, but got one for each of {len(class_names)} classes; add images")
    content = "\n".join((images.digest, *class_names, *more))
    return Split(
        name=name,
        train=images.subset(train_n),
        val=images.subset(val_m),
        test=ClosedTest(test),
        class_names=tuple(class_names),
        mean=mean,
        std=std,
        digest=hashlib.sha256(content.encode()).hexdigest(),
        split_digest=hashlib.sha256(val_m.astype("<i8").tobytes()).hexdigest(),
        notes=(images.skipped,) if images.skipped else (),
    )


def stratified_split(
    labels: ArrayLike, groups: ArrayLike, *, val_fraction: float, seed: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Choose validation images class by class; a group (exact duplicates) is never divided.

    Each class gives ``round(val_fraction * count)`` images, at least one where it has two groups, and always
    keeps one for training. A pure function of its inputs; which numbers name the groups does not matter.

    Args:
        labels: Class of each image, [N].
        groups: Group of each image, [N]; equal numbers are kept together, across classes too.
        val_fraction: In (0, 0.5].
        seed: Another seed, another choice.

    Returns:
        Sorted indices to train on and to validate on, int64, together ``range(N)``.
    """
    require(0 < val_fraction <= 0.5, "0 < val_fraction <= 0.5", val_fraction)
    labels_N, groups_N = np.asarray(labels, dtype=np.int64), np.asarray(groups, dtype=np.int64)
    require(labels_N.shape == groups_N.shape, f"groups of shape {labels_N.shape}", groups_N.shape)
    _, first_G, group_N = np.unique(groups_N, return_index=True, return_inverse=True)
    key_G = counter.bits(counter.SPLIT, seed, first_G)
    members: defaultdict[int, Counter[int]] = defaultdict(Counter)
    in_class: defaultdict[int, set[int]] = defaultdict(set)
    for group, label in zip(group_N.tolist(), labels_N.tolist(), strict=True):
        members[group][label] += 1
        in_class[label].add(group)
    counts, held, chosen = Counter(labels_N.tolist()), Counter[int](), set[int]()
    for label in sorted(counts):
        target = max(1, round(val_fraction * counts[label]))
        for group in sorted(in_class[label] - chosen, key=lambda group: int(key_G[group])):
            if held[label] >= target:
                break
            # Duplicates may carry several labels; none of those classes may lose its last training image.
            if all(held[other] + size < counts[other] for other, size in members[group].items()):
                chosen.add(group)
                held.update(members[group])
    in_val_N = np.isin(group_N, np.fromiter(chosen, dtype=np.int64))
    return np.flatnonzero(~in_val_N), np.flatnonzero(in_val_N)
