"""What gives a driver its trials: a search asks a sampler, a list has them written down."""

from collections.abc import Callable, Iterator
from typing import Protocol

from icd.search.core.pair_runs import PairRun
from icd.search.core.records import Stage, TrialRecord


class TrialSource(Protocol):
    """Makes trials in the ledger; all that it knows can be read there again."""

    stage: Stage  # what its trials are for
    tried: int  # trials that it has made, without duplicates

    def restore(self, record: TrialRecord) -> bool:
        """Learn from a trial that the ledger holds; False where it is not to be trained or told about."""
        ...

    def enqueued_left(self) -> bool:
        """Whether a configuration that was named beforehand has no trial yet."""
        ...

    @property
    def exhausted(self) -> bool:
        """Whether it has nothing new to say beyond what was named beforehand."""
        ...

    def new_trials(self, room: Callable[[], bool]) -> Iterator[int]:
        """Make trials while there is room, and yield the number of each that must be trained; it may end earlier."""
        ...

    def members(self, record: TrialRecord) -> tuple[PairRun, ...]:
        """Give the runs of a trial, from what was committed."""
        ...
