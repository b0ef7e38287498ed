"""What every data set's file provides: a loader that turns a request into a ``Split``, and a row that describes it."""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from icd.data.split import Split
from icd.data.views import ViewFamily
from icd.errors import DataError
from icd.models.output import Stem

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
CIFAR100_MEAN, CIFAR100_STD = (0.5071, 0.4867, 0.4408), (0.2675, 0.2565, 0.2761)


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """Where a data set lies and how it is divided."""

    root: Path | None  # the data folder (--data-root, ICD_DATA)
    path: str | None  # for data sets that are "some file" or "some folder"; relative to root
    val_share: float
    split_seed: int
    download: bool = False

    def folder(self, name: str) -> Path:
        """Give the data folder, or say that it is missing."""
        if self.root is None:
            raise DataError(f"{name}: no data folder given; pass --data-root or set ICD_DATA")
        if not self.root.is_dir():
            raise DataError(f"{name}: the data folder {self.root} is not a directory; pass another --data-root")
        return self.root

    def file(self, name: str) -> Path:
        """Give the file or folder that ``path`` names, or say that it is missing."""
        if not self.path:
            raise DataError(f"{name}: needs `path`; set data.path to its file or folder")
        where = (self.root or Path()) / self.path
        if not where.exists():
            raise DataError(f"{name}: {where} does not exist; correct data.path or --data-root")
        return where


@dataclass(frozen=True, slots=True, kw_only=True)
class DatasetRow:
    """One row of ``DATASETS``: how to load, and the defaults that a protocol or a user may override."""

    load: Callable[..., Split]  # load(request, **options)
    summary: str
    num_classes: int | None  # None: as many as the files have
    image_size: int | None  # None: as the files say
    views: ViewFamily
    stem: Stem
    preset: str  # the training protocol of the papers, a key of config/protocols.py's PRESETS
    needs_root: bool
    needs_path: bool
    horizontal_flip: bool  # whether a mirrored image keeps its class

    @property
    def options(self) -> Mapping[str, Any]:
        """The data set's own options with their defaults, read off its loader."""
        parameters = list(inspect.signature(self.load).parameters.values())
        return {parameter.name: parameter.default for parameter in parameters[1:]}
