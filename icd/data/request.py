"""What a user asks for: where a data set lies and how it is divided."""

from dataclasses import dataclass
from pathlib import Path

from icd.errors import DataError


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """Where a data set lies and how it is divided."""

    root: Path | None  # the data folder (--data-root, ICD_DATA); None: one in the user's cache
    path: str | None  # for data sets that are "some file" or "some folder"; relative to root
    val_fraction: float
    split_seed: int
    download: bool = False

    def folder(self, name: str, *, fetchable: bool = False) -> Path:
        """Give the data folder, or say that it is missing; whatever can be fetched makes it."""
        import platformdirs  # here, because bench/gpu_step.py runs with torch and NumPy alone

        root = self.root or platformdirs.user_cache_path("icd") / "data"
        if not root.is_dir() and not (fetchable and self.download):
            fetch = "run with --download, or " if fetchable else ""
            raise DataError(f"{name}: the data folder {root} is not there; {fetch}pass --data-root or set ICD_DATA")
        return root

    def file(self, name: str) -> Path:
        """Give the file or folder that ``path`` names, or say that it is missing."""
        if not self.path:
            raise DataError(f"{name}: needs `path`; set data.path to its file or folder")
        where = (self.root or Path()) / self.path
        if not where.exists():
            raise DataError(f"{name}: {where} does not exist; correct data.path or --data-root")
        return where
