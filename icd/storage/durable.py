"""What a power cut does not take back."""

import os
import threading
from contextlib import suppress
from pathlib import Path

from icd.errors import SetupError


def sync(path: Path) -> None:
    """Have the disk keep a file, or what a folder lists: a file that was moved into it may vanish without that."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_durably(path: Path, content: bytes, *, parents: bool = False) -> None:
    """Put a file into place so that a kill leaves the old one or the new one; with ``parents`` its folder is made.

    Raises:
        SetupError: If the disk is full or the folder cannot be written.
    """
    _write(path, content, parents=parents, durable=True)


def place(path: Path, content: bytes) -> None:
    """Do the same with a copy of what is elsewhere: nothing waits for the disk."""
    _write(path, content, parents=True, durable=False)


def _write(path: Path, content: bytes, *, parents: bool, durable: bool) -> None:
    aside = path.with_name(f".{path.name}.{os.getpid()}.{threading.get_native_id()}.tmp")
    try:
        if parents:
            path.parent.mkdir(parents=True, exist_ok=True)
        with aside.open("wb") as file:
            file.write(content)
            file.flush()
            if durable:
                os.fsync(file.fileno())
        aside.replace(path)
        if durable:
            sync(path.parent)
    except OSError as error:
        with suppress(OSError):
            aside.unlink()
        raise SetupError(f"{path} cannot be written: {error.strerror} ({len(content)} bytes needed)") from error
