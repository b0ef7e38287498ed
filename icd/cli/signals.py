"""Ctrl-C, SIGTERM and SIGHUP: the first asks a verb to stop after its epoch, the second ends it at once."""

import os
import signal
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType

# The signal that asked to stop, if one did; the exit code is 128 + its number.
STOPPED_BY: list[int] = []

_STOPPING = b"\nicd: stopping after the current epoch and saving a checkpoint (again to stop now)\n"
_STOPPED = "\nicd: error[INTERRUPTED] stopped before the epoch's end; continue with {}\n"
_WORKED: list[bool] = []
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@contextmanager
def stopping_politely(again: str = "the same command") -> Iterator[None]:
    """Within this block the first signal is remembered and the second ends the process.

    Args:
        again: What goes on from the last checkpoint; the second signal says it.
    """

    def on_signal(number: int, frame: FrameType | None) -> None:
        if STOPPED_BY:
            with suppress(OSError):
                os.write(2, _STOPPED.format(again).encode())
            os._exit(128 + number)
        STOPPED_BY.append(number)
        with suppress(OSError):  # not by sys.stderr, which this may have interrupted
            os.write(2, _STOPPING)

    STOPPED_BY.clear()
    _WORKED.append(True)
    with handled(on_signal, [n for n in _SIGNALS if signal.getsignal(n) is not signal.SIG_IGN]):  # nohup ignores one
        yield


@contextmanager
def handled(handler: Callable[[int, FrameType | None], object], numbers: Iterable[int]) -> Iterator[None]:
    """Within this block signals have another handler."""
    before = {number: signal.signal(number, handler) for number in numbers}
    try:
        yield
    finally:
        for number, old in before.items():
            signal.signal(number, old)


def stop_requested() -> bool:
    """Whether a signal asked to stop."""
    return bool(STOPPED_BY)


def worked() -> bool:
    """Whether this process has done more than to read and print."""
    return bool(_WORKED)
