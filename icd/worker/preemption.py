"""A notice that this process has to go soon: a SIGTERM from outside, or a node that is taken back.

What runs here ends its epoch, whose checkpoint is the only one there is: a step in the middle of an epoch cannot be
stored. Where the epoch takes longer than is left, it is given up, and the trial goes on from the checkpoint before.
"""

import signal
import threading
import time

from icd.search.core.messages import Preempt


class PreemptionNotice:
    """Given once for a whole process, and read by its attempts between steps.

    Attributes:
        reason: Why; empty as long as none was given.
    """

    def __init__(self) -> None:
        self.reason = ""
        self._given = 0.0
        self._seconds: float | None = None

    def give(self, reason: str, seconds: float | None = None) -> None:
        """Give it; of several the first counts.

        Args:
            reason: A few words for people.
            seconds: How long there is, infinity for no limit; None leaves that to the reader.
        """
        if not self.reason:
            self._given, self._seconds = time.monotonic(), seconds
            self.reason = reason

    @property
    def given(self) -> bool:
        """Whether to stop after the epoch under way."""
        return bool(self.reason)

    def over(self, grace_seconds: float) -> bool:
        """Whether to stop now; ``grace_seconds`` are granted where the notice does not say how long there is."""
        if not self.reason:
            return False
        seconds = grace_seconds if self._seconds is None else self._seconds
        return time.monotonic() > self._given + seconds


NOTICE = PreemptionNotice()  # of this process, since a signal is a whole process's


def heed(order: Preempt) -> None:
    """Take what the driver says of this process's node as a notice."""
    NOTICE.give(order.reason, order.until - time.time() if order.until else float("inf"))


def heed_sigterm() -> None:
    """Take a SIGTERM as a notice, also where the parent has blocked it; for the main thread alone."""
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, lambda *_: NOTICE.give("SIGTERM"))
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
