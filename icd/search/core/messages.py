"""What a driver and its workers say to each other, over a pipe or over Ray: down what to do, up what happens.

A worker gets ``Run`` and says ``Started``, then a ``Heartbeat`` every second or so and ``EpochDone`` after every
reporting epoch, and ``Finished`` at the end. It waits for the answer to an epoch: ``Continue`` or ``Stop``. Or it gets
``Prepare`` and says each ``Line`` of it, then ``Prepared`` or ``Refused``.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from icd.search.core.attempts import Attempt, AttemptResult, EpochReport
from icd.search.core.location import Location

if TYPE_CHECKING:  # these import torch, which Ray's control process does without
    from icd.errors import IcdError
    from icd.search.core.preparation import PreflightRequest, PreflightResult

# Down


@dataclass(frozen=True, slots=True)
class Run:
    """Run an attempt to its end."""

    attempt: Attempt


@dataclass(frozen=True, slots=True)
class Prepare:
    """Make ready what a sweep needs."""

    request: "PreflightRequest"


@dataclass(frozen=True, slots=True)
class Continue:
    """Go on after the epoch that was told."""


@dataclass(frozen=True, slots=True)
class Stop:
    """End after the epoch that was told, or at the next epoch of a teacher where a sweep is made ready."""


@dataclass(frozen=True, slots=True)
class Preempt:
    """End after the epoch under way, for the node is taken back.

    Attributes:
        reason: A few words for people.
        until: When the node goes, in seconds since 1970; 0 for no limit.
    """

    reason: str
    until: float = 0.0


@dataclass(frozen=True, slots=True)
class Hold:
    """Train nothing and stay, because the GPU is not to be given to others."""


@dataclass(frozen=True, slots=True)
class Shutdown:
    """End the process."""


# Up


@dataclass(frozen=True, slots=True)
class Started:
    """An attempt begins: where, and in which process."""

    location: Location
    pid: int


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """A step was made."""

    epoch: int
    step: int
    steps: int


@dataclass(frozen=True, slots=True)
class EpochDone:
    """A reporting epoch was finished; ``last`` says that none follows."""

    report: EpochReport
    last: bool


@dataclass(frozen=True, slots=True)
class Finished:
    """An attempt has ended, and its process with it where ``result.unclean``."""

    result: AttemptResult


@dataclass(frozen=True, slots=True)
class Hung:
    """No step was made for too long; the process ends next.

    Attributes:
        stack: Where every thread was.
    """

    stack: str


@dataclass(frozen=True, slots=True)
class Line:
    """How making ready goes, for people."""

    text: str


@dataclass(frozen=True, slots=True)
class Prepared:
    """All is ready."""

    result: "PreflightResult"


@dataclass(frozen=True, slots=True)
class Refused:
    """What is wrong, before a trial has started."""

    error: "IcdError"


Down = Run | Prepare | Continue | Stop | Preempt | Hold | Shutdown
Up = Started | Heartbeat | EpochDone | Finished | Hung | Line | Prepared | Refused
