"""Which GPUs and nodes get no more trials of this driver's run: those where three different trials had a fault in turn.

A strike is a fault of one trial at one location; an epoch that is finished there takes all strikes back. Each fault
counts against its GPU and against the whole machine. Nothing of it is kept for the next run.
"""

from collections.abc import Callable, Collection
from typing import NamedTuple

from icd.search.core.attempts import Location, is_quarantined

QUARANTINED = "quarantined"  # attribute of a study: the sentences of its driver's run
STRIKES = 3  # faults of different trials
BLAMED = ("gpu", "killed", "hang")  # kinds of faults that may be a location's


class Strike(NamedTuple):
    """A fault of one trial: its kind, and the GPU where it happened."""

    kind: str
    gpu: str


class NodeHealth:
    """Counts strikes.

    Attributes:
        quarantined: Those locations, each with a sentence that says why.
    """

    def __init__(self, announce: Callable[[str], None]) -> None:
        self._announce = announce
        self._strikes: dict[Location, dict[int, Strike]] = {}  # by trial
        self._worked: set[Location] = set()  # where an epoch was finished
        self.quarantined: dict[Location, str] = {}

    def epoch_finished(self, location: Location) -> None:
        """Take note that a trial gets on at a location."""
        self._worked.add(location)
        for scope in (location, location.machine):
            self._strikes.pop(scope, None)

    def fault(self, location: Location, trial: int, kind: str) -> None:
        """Take note of a fault; others than those of ``BLAMED`` say nothing of the location."""
        if kind not in BLAMED:
            return
        for scope in dict.fromkeys((location, location.machine)):
            strikes = self._strikes.setdefault(scope, {})
            strikes[trial] = Strike(kind, location.gpu)
            if scope not in self.quarantined and self._is_to_blame(scope, strikes.values()):
                kinds = ", ".join(dict.fromkeys(strike.kind for strike in strikes.values()))
                self.quarantined[scope] = (
                    f"{scope}: {len(strikes)} trials failed there ({kinds}) and none has finished an epoch there since;"
                    " it gets no more trials until the next 'icd resume'"
                )
                self._announce(self.quarantined[scope])

    def _is_to_blame(self, scope: Location, strikes: Collection[Strike]) -> bool:
        """Whether three strikes are the location's: CUDA says so of a GPU, and else trials must get on elsewhere.

        A machine is to blame for what happened on more than one of its GPUs.
        """
        gpus = {strike.gpu for strike in strikes}
        if len(strikes) < STRIKES or (len(gpus) == 1 and gpus != {scope.gpu}):
            return False
        if scope.gpu and all(strike.kind == "gpu" for strike in strikes):
            return True
        others = (other for other in self._worked if scope not in (other, other.machine))
        return any(not is_quarantined(other, self.quarantined) for other in others)
