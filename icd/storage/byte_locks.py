"""Locks on single bytes of a file, which keep out other processes and other threads of this one.

The kernel's older locks (``lockf``) belong to a process: its threads do not exclude each other, and closing any
descriptor of the file drops them all. Locks of an open file description (Linux) belong to one opening of the file, so
each holder opens it anew; where they are missing, the threads of a process take turns.
"""

import fcntl
import os
import struct
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

_OPENINGS = Path("/proc/self/fd")  # opening a file again by its descriptor finds it even where its name is gone
_WAIT: int | None = getattr(fcntl, "F_OFD_SETLKW", None) if _OPENINGS.exists() else None
_FLOCK = "hhqqi"  # struct flock: type, whence, start, length, pid (0)
_TURNS = threading.RLock()  # a thread may hold bytes of several files


class ByteLocks:
    """A file whose bytes can be held."""

    def __init__(self, path: Path) -> None:
        self._handle = os.open(path, os.O_RDWR)

    def close(self) -> None:
        """Let go of the file; nobody may hold bytes of it by this object."""
        with _TURNS:
            os.close(self._handle)

    @contextmanager
    def held(self, places: Iterable[int]) -> Iterator[None]:
        """Hold bytes, waiting for those that others hold; in ascending order, so that two cannot wait for each other.

        A holder that dies lets go.
        """
        wanted = sorted(set(places))
        with self._by_turns(wanted) if _WAIT is None else self._by_opening(wanted, _WAIT):
            yield

    @contextmanager
    def _by_opening(self, places: list[int], wait: int) -> Iterator[None]:
        opening = os.open(_OPENINGS / str(self._handle), os.O_RDWR)
        try:
            for place in places:
                fcntl.fcntl(opening, wait, struct.pack(_FLOCK, fcntl.F_WRLCK, os.SEEK_SET, place, 1, 0))
            yield
        finally:
            os.close(opening)  # lets go of every byte

    @contextmanager
    def _by_turns(self, places: list[int]) -> Iterator[None]:
        with _TURNS:
            try:
                for place in places:
                    fcntl.lockf(self._handle, fcntl.LOCK_EX, 1, place)
                yield
            finally:
                for place in places:
                    fcntl.lockf(self._handle, fcntl.LOCK_UN, 1, place)
