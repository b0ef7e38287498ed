"""Which folder stands for a root of results: itself, or this machine's copy of a bucket."""

import os
from pathlib import Path


def root_of(root: Path | str | None = None) -> Path:
    """Give the folder that stands for a root, by default for ``ICD_ROOT``, or ``runs`` here; of a bucket our copy."""
    from icd.storage.bucket import local_root

    return local_root((os.environ.get("ICD_ROOT") or "runs") if root is None else root)
