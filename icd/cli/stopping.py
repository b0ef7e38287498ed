"""Ctrl-C, SIGTERM and a closed terminal: once means after this epoch, twice means now."""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType

# The signal that asked to stop, if one did; the exit code is 128 + its number.
STOPPED_BY: list[int] = []

_STOPPING = b"\nicd: stopping after the current epoch and saving a checkpoint (again to stop now)\n"
_WORKED: list[bool] = []
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@contextmanager
def stopping_politely() -> Iterator[None]:
    """Within this block the first signal is remembered and the second ends the process."""

    def on_signal(number: int, frame: FrameType | None) -> None:
        if STOPPED_BY:
            os._exit(128 + number)
        STOPPED_BY.append(number)
        with suppress(OSError):  # not by sys.stderr, which this may have interrupted
            os.write(2, _STOPPING)

    STOPPED_BY.clear()
    _WORKED.append(True)
    handled = [number for number in _SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]  # nohup ignores one
    before = {number: signal.signal(number, on_signal) for number in handled}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def stop_requested() -> bool:
    """Whether a signal asked to stop."""
    return bool(STOPPED_BY)


def worked() -> bool:
    """Whether this process has done more than to read and print."""
    return bool(_WORKED)
