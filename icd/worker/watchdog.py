"""Ends a worker's process where no step is made for too long, after saying what every thread does."""

import contextlib
import faulthandler
import os
import threading
import time
from collections.abc import Callable, Iterator

from icd.search.core.attempts import Attempt
from icd.search.core.messages import Heartbeat, Hung, Up

HEARTBEAT_S = 1.0
_LOOK_S = 1.0
_LAST_WORDS_S = 10.0  # to say that it hangs; where no thread can run by then, the process ends without


class Watchdog:
    """Counts the seconds since the last step of an attempt.

    The process ends with a stack in a file of the trial's (``Attempt.stack``) that nobody else may see, so the stack is
    also told. That takes a thread; where C code lets none run, faulthandler ends the process without one.

    Args:
        attempt: Whose steps; it has at most ``hang_seconds`` for each.
        say: Tells the driver.
    """

    def __init__(self, attempt: Attempt, say: Callable[[Up], None]) -> None:
        self._attempt, self._say = attempt, say
        self._over = threading.Event()
        self._armed_at, self._told = float("inf"), 0.0
        attempt.stack.parent.mkdir(parents=True, exist_ok=True)
        for left in attempt.stack.parent.glob("stack-*.txt"):  # by a process that was killed before it had to say
            if left.stat().st_size == 0:
                left.unlink()
        self._file = attempt.stack.open("w+")

    def __enter__(self) -> "Watchdog":
        self._arm()
        threading.Thread(target=self._watch, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._disarm()
        self._file.close()
        self._attempt.stack.unlink(missing_ok=True)

    def step(self, epoch: int, step: int, steps: int) -> None:
        """Begin to count again, and tell the driver now and then; called after every step."""
        if time.monotonic() - self._told > HEARTBEAT_S:
            self._told = time.monotonic()
            if self._armed_at < float("inf"):
                self._arm()
            self._say(Heartbeat(epoch, step, steps))

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Count nothing in this block, where the driver is waited for; training waits for it too."""
        self._disarm()
        try:
            yield
        finally:
            self._arm()

    def _arm(self) -> None:
        self._armed_at = time.monotonic()
        faulthandler.dump_traceback_later(self._attempt.hang_seconds + _LAST_WORDS_S, exit=True, file=self._file)

    def _disarm(self) -> None:
        self._armed_at = float("inf")
        faulthandler.cancel_dump_traceback_later()

    def _watch(self) -> None:
        while not self._over.wait(_LOOK_S):
            if time.monotonic() - self._armed_at > self._attempt.hang_seconds:
                faulthandler.dump_traceback(file=self._file)
                self._file.seek(0)
                self._say(Hung(self._file.read()))
                os._exit(1)
