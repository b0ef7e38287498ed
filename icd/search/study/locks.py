"""One driver at a time: a lock that dies with its holder, and a record of who holds it."""

import fcntl
import json
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from icd.errors import SetupError, StateError

_TRIES = 5
_PAUSE_S = 0.05


@contextmanager
def driver_lock(folder: Path) -> Iterator[None]:
    """Hold the right to drive a sweep on this file system within the block, or until death.

    Raises:
        StateError: If another driver holds it; names that driver.
        SetupError: If the folder cannot be written or locked.
    """
    path = folder / "driver.lock"
    try:
        file = path.open("a+", encoding="utf-8")
    except OSError as error:
        raise SetupError(f"{path} cannot be written: {error.strerror}; choose --root") from error
    with file:
        try:
            _lock_soon(file)
        except BlockingIOError:
            raise StateError(
                f"sweep {folder.name!r} is driven by {holder(folder)}; wait for it, or end it with 'icd stop'"
            ) from None
        except OSError as error:
            raise SetupError(f"{path} cannot be locked: {error.strerror}; choose a --root that can") from error
        mine = {"pid": os.getpid(), "host": socket.gethostname(), "since": time.strftime("%Y-%m-%d %H:%M:%S")}
        try:
            with suppress(OSError):  # on a full disk the lock holds all the same
                os.ftruncate(file.fileno(), 0)
                os.write(file.fileno(), json.dumps(mine).encode())
            yield
        finally:
            with suppress(OSError):
                os.ftruncate(file.fileno(), 0)


def _lock_soon(file: Any) -> None:
    """Take the lock; ``is_driven`` of another process may hold it for a moment."""
    for _ in range(_TRIES):
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            time.sleep(_PAUSE_S)
        else:
            return
    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def holder(folder: Path) -> str:
    """Say who drives a sweep: ``pid 812 on host h since ...``."""
    try:
        said = json.loads((folder / "driver.lock").read_text())
        return f"pid {said['pid']} on {said['host']} since {said['since']}"
    except (OSError, ValueError, KeyError, TypeError):
        return "another driver"


def is_driven(folder: Path) -> bool:
    """Whether a live driver holds the sweep."""
    try:
        with (folder / "driver.lock").open() as file:  # shared: two who ask are not taken for a driver
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False
