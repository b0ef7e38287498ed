"""After which faults a trial begins again, and how often: ``RETRIES``.

What happened at a location that gets no more trials does not count, and neither does a preemption.
"""

from collections import Counter
from collections.abc import Callable, Mapping

from icd.search.controller.node_health import BLAMED, NodeHealth
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

NO_PROGRESS = 10  # preemptions of one trial with no epoch in between


class RetryPolicy:
    """Remembers how the attempts of one driver's run ended."""

    def __init__(self, retries: int, announce: Callable[[str], None]) -> None:
        self._retries, self.health = retries, NodeHealth(announce)
        self._before: dict[int, Mapping[str, int]] = {}  # what earlier drivers counted
        self._here: dict[int, list[tuple[str, Location | None]]] = {}
        self._preempted: Counter[int] = Counter()

    @property
    def quarantined(self) -> Mapping[Location, str]:
        """Where no attempt is to be started, and why."""
        return self.health.quarantined

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
            self.health.epoch_finished(epoch.location)

    def on_finished(self, result: AttemptResult) -> None:
        """Take note of an end, whatever it was."""
        if result.kind == "preempted":
            self._preempted[result.number] += 1
        elif result.kind in RETRIES:
            self._here.setdefault(result.number, []).append((result.kind, result.location))
            if result.location is not None:
                self.health.fault(result.location, result.number, result.kind)

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
