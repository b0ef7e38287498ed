"""After which faults a trial begins again, and how often (``RETRIES``), and which GPUs and nodes get no more trials.

A location is quarantined for the rest of this driver's run where three different trials had a fault in turn: each is a
strike against its GPU and against the whole machine, and an epoch that is finished there takes all of them back. What
happened at such a location does not count against a trial, and neither does a preemption.
"""

from collections import Counter
from collections.abc import Callable, Collection, Mapping
from typing import NamedTuple

from icd.search.core.attempts import AttemptResult, EpochReport, Location, is_quarantined

# Attempts after the first that each kind of fault allows; None stands for the sweep's own ``resources.retries``.
RETRIES: Mapping[str, int | None] = {
    "killed": None,  # the process died of a signal
    "lost": None,  # its node went away
    "hang": None,
    "gpu": None,  # a CUDA error: elsewhere, in a fresh process
    "memory": 1,  # out of memory, of the host or the GPU
    "setup": 0,  # configuration or data: it would fail again
    "error": 0,  # anything else the code raised
}
BLAMED = ("gpu", "killed", "hang")  # kinds of faults that may be a location's
STRIKES = 3  # faults of different trials
NO_PROGRESS = 10  # preemptions of one trial with no epoch in between
QUARANTINED = "quarantined"  # attribute of a study: the sentences of its driver's run


class Strike(NamedTuple):
    """A fault of one trial: its kind, and the GPU where it happened."""

    kind: str
    gpu: str


class RetryPolicy:
    """Remembers how the attempts of one driver's run ended.

    Attributes:
        quarantined: Where no attempt is to be started, each location with a sentence that says why.
    """

    def __init__(self, retries: int, announce: Callable[[str], None]) -> None:
        self._retries, self._announce = retries, announce
        self._before: dict[int, Mapping[str, int]] = {}  # what earlier drivers counted
        self._here: dict[int, list[tuple[str, Location | None]]] = {}
        self._preempted: Counter[int] = Counter()
        self._strikes: dict[Location, dict[int, Strike]] = {}  # by trial
        self._worked: set[Location] = set()  # where an epoch was finished
        self.quarantined: dict[Location, str] = {}

    def restore(self, number: int, counts: Mapping[str, int]) -> None:
        """Go on from what the ledger has of a trial."""
        self._before[number] = dict(counts)

    def counts(self, number: int) -> dict[str, int]:
        """The faults of a trial that are its own, by kind."""
        counted = Counter(self._before.get(number, {}))
        counted.update(kind for kind, location in self._here.get(number, ()) if not self._excused(kind, location))
        return {kind: count for kind, count in counted.items() if count}

    def on_epoch(self, epoch: EpochReport) -> None:
        """Take note that a trial and its location get on."""
        self._preempted[epoch.number] = 0
        if epoch.location is not None:
            self._worked.add(epoch.location)
            for scope in (epoch.location, epoch.location.machine):
                self._strikes.pop(scope, None)

    def on_finished(self, result: AttemptResult) -> None:
        """Take note of an end, whatever it was."""
        if result.kind == "preempted":
            self._preempted[result.number] += 1
        elif result.kind in RETRIES:
            self._here.setdefault(result.number, []).append((result.kind, result.location))
            if result.kind in BLAMED and result.location is not None:
                self._strike(result.location, result.number, result.kind)

    def again(self, result: AttemptResult) -> str:
        """Say why a trial is tried again after a fault that was noted, as ``retry 1/3``; empty where it is not."""
        if self._excused(result.kind, result.location):
            return "not its own fault, it goes on elsewhere"
        allowed = RETRIES[result.kind]
        allowed = self._retries if allowed is None else allowed
        count = self.counts(result.number)[result.kind]
        return f"retry {count}/{allowed}" if count <= allowed else ""

    def no_progress(self, number: int) -> bool:
        """Whether a trial was preempted again and again without getting on."""
        return self._preempted[number] >= NO_PROGRESS

    def _excused(self, kind: str, location: Location | None) -> bool:
        return kind in BLAMED and is_quarantined(location, self.quarantined)

    def _strike(self, location: Location, trial: int, kind: str) -> None:
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
