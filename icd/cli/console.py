"""Ctrl-C, SIGTERM and a closed terminal: once means after this epoch, twice means now."""

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

# The signal that asked to stop, if one did; the exit code is 128 + its number.
STOPPED_BY: list[int] = []

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@contextmanager
def stopping_politely() -> Iterator[None]:
    """Within this block the first signal is remembered and the second ends the process."""

    def on_signal(number: int, frame: FrameType | None) -> None:
        if STOPPED_BY:
            os._exit(128 + number)
        STOPPED_BY.append(number)
        _say("\nicd: stopping after the current epoch and saving a checkpoint (again to stop now)\n")

    STOPPED_BY.clear()
    handled = [number for number in _SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]  # nohup ignores one
    before = {number: signal.signal(number, on_signal) for number in handled}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _say(text: str) -> None:
    """Write to the terminal; where it is gone, nothing written later may fail either."""
    try:
        sys.stderr.write(text)
        sys.stderr.flush()
    except OSError:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        numbers = (1, 2) if os.path.sameopenfile(1, 2) else (2,)
        for number in numbers:
            os.dup2(nowhere, number)
        os.close(nowhere)


def stop_requested() -> bool:
    """Whether a signal asked to stop."""
    return bool(STOPPED_BY)
