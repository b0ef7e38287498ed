"""What a user asks for: where a data set lies and how it is divided."""

from dataclasses import dataclass
from pathlib import Path

from icd.errors import DataError


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
