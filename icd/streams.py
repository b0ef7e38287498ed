"""Standard streams that never fail: output that cannot be written is dropped.

A sweep outlives its console: a pipe whose reader has ended, a terminal that is closed, a log on a full disk. Nothing
that is printed may raise, so the streams are set up anew over a lowest layer that reports every write as done.
"""

import errno
import io
import os
import select
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, TextIO

_STREAMS = (("stdout", 1), ("stderr", 2))


class Unwritten(io.RawIOBase):
    """A file descriptor that drops what it cannot write; ``error`` is the first reason."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number
        self.error: OSError | None = None

    def write(self, content: Any, /) -> int:
        while True:
            try:
                return os.write(self.number, content)
            except BlockingIOError:
                select.select([], [self.number], [])
            except OSError as error:
                self.error = self.error or error
                if error.errno != errno.ENOSPC:  # a disk may have room later; whoever read our output has gone for good
                    _to_nowhere(self.number)
                return len(content)

    def writable(self) -> bool:
        return True

    def isatty(self) -> bool:
        return os.isatty(self.number)

    def fileno(self) -> int:
        return self.number


@contextmanager
def lasting_streams() -> Iterator[Unwritten | None]:
    """Within this block printing never fails; gives the lowest layer of stdout, None where stdout is not our own.

    Streams that something else has put in place, such as a test, are left alone.
    """
    before, lowest = (sys.stdout, sys.stderr), dict[str, Unwritten]()
    for name, number in _STREAMS:
        given: TextIO | None = getattr(sys, name)
        if given is not None and given is not getattr(sys, f"__{name}__"):
            continue
        if given is None:  # it was closed before we came; nothing else may get its number
            try:
                os.fstat(number)
            except OSError:
                _to_nowhere(number)
        else:
            with suppress(OSError):
                given.flush()
        lowest[name] = Unwritten(number)
        lasting = io.TextIOWrapper(
            io.BufferedWriter(lowest[name]),
            encoding=given.encoding if given else "utf-8",
            errors="backslashreplace",
            line_buffering=name == "stderr" or os.isatty(number),
        )
        setattr(sys, name, lasting)
    try:
        yield lowest.get("stdout")
    finally:
        for stream in (sys.stdout, sys.stderr):
            with suppress(OSError, ValueError):
                stream.flush()
        sys.stdout, sys.stderr = before


def _to_nowhere(number: int) -> None:
    nowhere = os.open(os.devnull, os.O_WRONLY)
    if nowhere != number:
        os.dup2(nowhere, number)
        os.close(nowhere)
