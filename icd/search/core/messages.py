"""What a driver and its workers say to each other, over a pipe or over Ray: down what to do, up what happens.

A worker gets ``Run`` and says ``Started``, then a ``Heartbeat`` every second or so and ``EpochDone`` after every
reporting epoch, and ``Finished`` at the end. It waits for the answer to an epoch: ``CONTINUE`` or ``STOP``. Or it gets
``Prepare`` and says each ``Line`` of it, then ``Prepared`` or ``Refused``.
"""

from enum import Enum
from typing import TYPE_CHECKING, NamedTuple

from icd.search.core.attempts import Attempt, AttemptResult, EpochReport, Location

if TYPE_CHECKING:  # these import torch, which Ray's control process does without
    from icd.errors import IcdError
    from icd.search.core.preparation import PreflightRequest, PreflightResult

# Down


class Order(Enum):
    """What needs no more words."""

    CONTINUE = "go on after the epoch that was told"
    STOP = "end after the epoch that was told, or at the next epoch of a teacher where a sweep is made ready"
    HOLD = "train nothing and stay, because the GPU is not to be given to others"
    SHUTDOWN = "end the process"


class Run(NamedTuple):
    """Run an attempt to its end."""

    attempt: Attempt


class Prepare(NamedTuple):
    """Make ready what a sweep needs."""

    request: "PreflightRequest"


class Preempt(NamedTuple):
    """End after the epoch under way, for the node is taken back."""

    reason: str  # a few words for people
    until: float = 0.0  # when the node goes, in seconds since 1970; 0 for no limit


# Up


class Started(NamedTuple):
    """An attempt begins: where, and in which process."""

    location: Location
    pid: int


class Heartbeat(NamedTuple):
    """A step was made."""

    epoch: int
    step: int
    steps: int


class EpochDone(NamedTuple):
    """A reporting epoch was finished; ``last`` says that none follows."""

    report: EpochReport
    last: bool


class Finished(NamedTuple):
    """An attempt has ended, and its process with it where ``result.unclean``."""

    result: AttemptResult


class Hung(NamedTuple):
    """No step was made for too long; ``stack`` says where every thread was, and the process ends next."""

    stack: str


class Line(NamedTuple):
    """How making ready goes, for people."""

    text: str


class Prepared(NamedTuple):
    """All is ready."""

    result: "PreflightResult"


class Refused(NamedTuple):
    """What is wrong, before a trial has started."""

    error: "IcdError"


Down = Run | Prepare | Preempt | Order
Up = Started | Heartbeat | EpochDone | Finished | Hung | Line | Prepared | Refused
