"""Whose fault it is that an attempt ended, and whether its trial begins again: a trial's own, its place's, or nobody's.

A trial has so many retries of its own. What happened on a place that is quarantined does not count, and neither does a
preemption.
"""

import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from icd.search.controller.node_health import BLAMED, Complaint, End, Location, Seen, sentence, sick_places
from icd.search.core.attempts import RETRIES, AttemptResult, EpochReport

FRUITLESS = 10  # preemptions of one trial with no epoch in between


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryDecision:
    """What follows from a fault.

    Attributes:
        again: Whether the trial is tried again.
        words: How often it was, for people.
    """

    again: bool
    words: str = ""


class RetryPolicy:
    """Remembers how the attempts of one driver's run ended.

    Args:
        retries: What ``RETRIES`` leaves to the sweep.
        news: Told once of every place that is quarantined, or used again.
    """

    def __init__(self, retries: int, news: Callable[[str], None], clock: Callable[[], float] = time.monotonic) -> None:
        self._retries, self._news, self._clock = retries, news, clock
        self._before: dict[int, Mapping[str, int]] = {}  # what earlier drivers counted
        self._here: dict[int, list[tuple[str, Location | None]]] = {}
        self._fruitless: Counter[int] = Counter()
        self._seen = Seen()
        self.quarantined: Mapping[Location, Complaint] = {}

    def take_up(self, number: int, counts: Mapping[str, int]) -> None:
        """Go on from what the ledger has of a trial."""
        self._before[number] = dict(counts)

    def counts(self, number: int) -> dict[str, int]:
        """The faults of a trial that are its own, by kind."""
        counted = Counter(self._before.get(number, {}))
        counted.update(kind for kind, place in self._here.get(number, ()) if not self._excused(kind, place))
        return {kind: count for kind, count in counted.items() if count}

    def hear_epoch(self, epoch: EpochReport) -> None:
        """Take note that a trial and its place get on."""
        self._fruitless[epoch.number] = 0
        if epoch.place is not None:
            self._seen = self._seen.with_epoch(epoch.place, self._clock())

    def hear_end(self, outcome: AttemptResult) -> None:
        """Take note of an end, whatever it was."""
        if outcome.kind == "preempted":
            self._fruitless[outcome.number] += 1
        elif outcome.kind in RETRIES:
            self._here.setdefault(outcome.number, []).append((outcome.kind, outcome.place))
        if outcome.place is not None:
            end = End(place=outcome.place, trial=outcome.number, kind=outcome.kind, time=self._clock())
            self._seen = self._seen.with_end(end)
            if outcome.kind in (*RETRIES, "preempted"):
                self._look()

    def judge(self, outcome: AttemptResult) -> RetryDecision:
        """Say whether a trial is tried again after a fault that was heard."""
        if self._excused(outcome.kind, outcome.place):
            return RetryDecision(again=True, words="not its own fault, it goes on elsewhere")
        allowed = RETRIES[outcome.kind]
        allowed = self._retries if allowed is None else allowed
        count = self.counts(outcome.number)[outcome.kind]
        return RetryDecision(again=count <= allowed, words=f"retry {count}/{allowed}")

    def _excused(self, kind: str, place: Location | None) -> bool:
        return kind in BLAMED and place in self.quarantined

    def fruitless(self, number: int) -> bool:
        """Whether a trial was preempted again and again without getting on."""
        return self._fruitless[number] >= FRUITLESS

    def sentences(self) -> list[str]:
        """Say which places are quarantined, and why."""
        return [sentence(place, complaint) for place, complaint in self.quarantined.items()]

    def touched(self, places: set[Location]) -> Iterator[int]:
        """Give the trials that had a fault on one of these places."""
        return (number for number, had in self._here.items() if any(place in places for _, place in had))

    def _look(self) -> None:
        before, self.quarantined = self.quarantined, sick_places(self._seen, self.quarantined)
        for place in self.quarantined.keys() - before.keys():
            self._news(sentence(place, self.quarantined[place]))
        for place in before.keys() - self.quarantined.keys():
            self._news(f"{place} is used again: a trial that failed there has failed elsewhere too")
