"""A disk that forgets at a power cut whatever was not synced; ``kill -9`` cannot show that, it keeps the page cache.

A file's content is kept as it was at its last fsync. A name is kept as it was at the last fsync of its folder; but a
file system may also write names early, so what is left is given for both.
"""

import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

Left = dict[str, bytes]


class Disk:
    """What would be left of one folder; begins with everything in it synced."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._contents: dict[int, bytes] = {}
        self._names: dict[str, int] = {}
        self._open: list[int] = []  # so that no number of an inode is used again
        for path in folder.iterdir():
            self._keep(os.open(path, os.O_RDONLY))
        self._names = self._now()

    def after_a_power_cut(self) -> tuple[Left, Left]:
        """What is left with the names of the last sync, and with those of now."""
        return self._left(self._names), self._left(self._now())

    @contextmanager
    def watched(self, moments: list[Left]) -> Iterator[None]:
        """Add what a power cut would leave before each sync and each rename, and at the end."""

        def before(act: Callable[..., Any], then: Callable[..., None] = lambda *words: None) -> Callable[..., Any]:
            def watching(*words: Any, **more: Any) -> Any:
                moments.extend(self.after_a_power_cut())
                done = act(*words, **more)
                then(*words)
                return done

            return watching

        with (
            patch("os.fsync", before(os.fsync, self._synced)),
            patch("os.replace", before(os.replace)),
            patch("os.rename", before(os.rename)),
        ):
            yield
        moments.extend(self.after_a_power_cut())

    def close(self) -> None:
        for handle in self._open:
            os.close(handle)

    def _synced(self, handle: Any) -> None:
        number = handle if isinstance(handle, int) else handle.fileno()
        if not stat.S_ISDIR(os.fstat(number).st_mode):
            self._keep(os.dup(number))
        elif os.path.samestat(os.fstat(number), self.folder.stat()):
            self._names = self._now()

    def _keep(self, handle: int) -> None:
        self._open.append(handle)
        self._contents[os.fstat(handle).st_ino] = Path(f"/proc/self/fd/{handle}").read_bytes()

    def _now(self) -> dict[str, int]:
        return {entry.name: entry.inode() for entry in os.scandir(self.folder)}

    def _left(self, names: dict[str, int]) -> Left:
        return {name: self._contents.get(inode, b"") for name, inode in names.items()}
