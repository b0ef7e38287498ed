"""Locks on single bytes of a file, which keep out other processes and other threads of this one.

The kernel's older locks (``lockf``) belong to a process: its threads do not exclude each other, and closing any
descriptor of the file drops them all. Locks of an open file description (Linux) belong to one opening of the file, so
each holder opens it anew.
"""

import fcntl
import os
import struct
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

_OPENINGS = Path("/proc/self/fd")  # opening a file again by its descriptor finds it even where its name is gone
_FLOCK = "hhqqi"  # struct flock: type, whence, start, length, pid (0)


class ByteLocks:
    """A file whose bytes can be held."""

    def __init__(self, path: Path) -> None:
        self._handle = os.open(path, os.O_RDWR)

    def close(self) -> None:
        """Let go of the file; nobody may hold bytes of it by this object."""
        os.close(self._handle)

    @contextmanager
    def held(self, places: Iterable[int]) -> Iterator[None]:
        """Hold bytes, waiting for those that others hold; in ascending order, so that two cannot wait for each other.

        A holder that dies lets go.
        """
        opening = os.open(_OPENINGS / str(self._handle), os.O_RDWR)
        try:
            for place in sorted(set(places)):
                byte = struct.pack(_FLOCK, fcntl.F_WRLCK, os.SEEK_SET, place, 1, 0)
                fcntl.fcntl(opening, fcntl.F_OFD_SETLKW, byte)
            yield
        finally:
            os.close(opening)  # lets go of every byte
