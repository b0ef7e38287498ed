"""Ctrl-C and SIGTERM: once means after this epoch, twice means now."""

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

# The signal that asked to stop, if one did; the exit code is 128 + its number.
STOPPED_BY: list[int] = []


@contextmanager
def stopping_politely() -> Iterator[None]:
    """Within this block the first signal is remembered and the second ends the process."""

    def on_signal(number: int, frame: FrameType | None) -> None:
        if STOPPED_BY:
            os._exit(128 + number)
        STOPPED_BY.append(number)
        sys.stderr.write("\nicd: stopping after the current epoch and saving a checkpoint (again to stop now)\n")
        sys.stderr.flush()

    STOPPED_BY.clear()
    before = {number: signal.signal(number, on_signal) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def stop_requested() -> bool:
    """Whether a signal asked to stop."""
    return bool(STOPPED_BY)
