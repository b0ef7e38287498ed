"""Asynchronous successive halving that promotes: who is not among the best of its rung waits, and may go on later.

The rule is that of Li et al., A System for Massively Parallel Hyperparameter Tuning (MLSys 2020), algorithm 2, but for
one thing: a trial that is among the best when it reaches a rung goes on at once, in the attempt that it has.
"""

from collections.abc import Sequence

from icd.config.sweep import PrunerConfig
from icd.search.core.records import TrialRecord

_COMPARED = ("running", "paused", "complete", "pruned")  # a fault says nothing of a configuration


class Promotion:
    """Says which trials wait at which rung, and which of them may go on; with another pruner nobody waits.

    Rung k begins at the epoch ``min_epochs * reduction ** k``. A trial reaches it with the first epoch from there on
    that it reports, and has the value of that epoch there ever after. Of n trials that have ever reached a rung,
    whatever became of them, the best ``floor(n / reduction)`` may go on. Of equal values the earlier trial's is the
    better one, and a value that is not finite is the worst.

    Args:
        pruner: Of the sweep.
        maximize: Whether a large value is good.
    """

    def __init__(self, pruner: PrunerConfig, *, maximize: bool) -> None:
        self._pruner, self._sign = pruner, -1.0 if maximize else 1.0
        self._rungs: dict[int, dict[int, tuple[float, int]]] = {}  # by rung and trial: value, small is good, and epoch
        self._waiting: dict[int, int] = {}  # rungs of those that are paused
        self._passed: dict[int, int] = {}  # the last rung from which a trial was taken up again

    @property
    def waiting(self) -> Sequence[int]:
        """Give the trials that are paused."""
        return sorted(self._waiting)

    def restore(self, record: TrialRecord) -> None:
        """Learn from a trial that the ledger holds."""
        if self._pruner.name != "promote" or record.state not in _COMPARED:
            return
        for epoch, value in record.curve.items():
            self._reach(record.number, epoch, self._sign * value)
        if record.paused_at is not None:
            self._reach(record.number, record.paused_at, float("inf"))  # unless the study has a finite value
            self.pause(record.number, record.paused_at)
            if record.state != "paused":
                self.thaw(record.number)

    def should_pause(self, number: int, epoch: int, value: float) -> bool:
        """Take an epoch; whether its trial is not to go on now. The same epoch again gets an answer as of now."""
        if self._pruner.name != "promote" or (rung := self._reach(number, epoch, self._sign * value)) is None:
            return False
        reached = self._rungs[rung][number][1] == epoch and self._passed.get(number, -1) < rung
        return reached and number not in self._best(rung)

    def pause(self, number: int, epoch: int) -> None:
        """Take note that a trial waits since an epoch."""
        rung = self._rung(epoch)
        if rung is not None:
            self._waiting[number] = rung

    def promotable(self) -> list[int]:
        """Give the waiting trials that may go on: those of the top rung first, the best of a rung first."""
        rungs = sorted(set(self._waiting.values()), reverse=True)
        return [number for rung in rungs for number in self._best(rung) if self._waiting.get(number) == rung]

    def thaw(self, number: int) -> None:
        """Take note that a trial goes on."""
        self._passed[number] = self._waiting.pop(number)

    def _reach(self, number: int, epoch: int, value: float) -> int | None:
        """Note a value, small is good, at the rung of an epoch if the trial has none there; gives the rung."""
        rung = self._rung(epoch)
        if rung is not None:
            finite = value if abs(value) < float("inf") else float("inf")
            self._rungs.setdefault(rung, {}).setdefault(number, (finite, epoch))
        return rung

    def _best(self, rung: int) -> list[int]:
        """Give the trials that may go on from a rung, the best first."""
        reached = self._rungs[rung]
        most = len(reached) // self._pruner.reduction
        return sorted(reached, key=lambda number: (reached[number][0], number))[:most]

    def _rung(self, epoch: int) -> int | None:
        """Give the last rung that begins no later than an epoch; None before the first."""
        first, rung = self._pruner.min_epochs, -1
        while first <= epoch:
            first, rung = first * self._pruner.reduction, rung + 1
        return rung if rung >= 0 else None
