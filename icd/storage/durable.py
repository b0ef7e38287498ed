"""What a power cut does not take back."""

import os
from pathlib import Path


def sync(path: Path) -> None:
    """Have the disk keep a file, or what a folder lists: a file that was moved into it may vanish without that."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
