"""Which folder stands for a root of results: itself, or this machine's copy of a bucket."""

import os
from pathlib import Path


def default_root() -> Path:
    """Where results are kept: ``ICD_ROOT``, or ``runs`` here; for a bucket this machine's copy of it."""
    from icd.storage.bucket import local_root

    return local_root(os.environ.get("ICD_ROOT") or "runs")


def root_of(root: Path | str | None) -> Path:
    """Give the folder that stands for a root; None stands for the default."""
    from icd.storage.bucket import local_root

    return default_root() if root is None else local_root(root)
