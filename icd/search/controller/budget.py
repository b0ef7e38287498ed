"""What a sweep may still spend, and whether that pays."""

import time

from icd.config.sweep import Budget
from icd.search.core.device_usage import device_hours
from icd.search.core.expected_gain import expected_gain
from icd.search.core.records import TrialRecord


class BudgetTracker:
    """Hours and GPU hours against a budget, over all drivers that a sweep has had.

    A driver's hours begin when it reads the ledger; what it makes ready before, such as a teacher, is not counted.
    """

    def __init__(self, budget: Budget, seconds_before: float, gpus_per_trial: float, *, maximize: bool) -> None:
        self._budget, self._gpus, self._maximize = budget, gpus_per_trial, maximize
        self._ended: dict[int, TrialRecord] = {}
        self._pays: bool | None = None  # not known since the last end
        self._seconds_before, self._started = seconds_before, time.monotonic()
        self._gpu_hours: dict[int, float] = {}

    def spend(self, record: TrialRecord) -> None:
        """Count what the epochs of a trial took."""
        self._gpu_hours[record.number] = device_hours([record], "gpus", self._gpus)

    @property
    def seconds(self) -> float:
        """That the sweep has run, this driver included."""
        return self._seconds_before + time.monotonic() - self._started

    def over(self, tried: int) -> bool:
        """Whether no further trial may begin, after so many."""
        gpu_hours = sum(self._gpu_hours.values())
        spent = ((self._budget.hours, self.seconds / 3600), (self._budget.gpu_hours, gpu_hours))
        late = any(most is not None and hours > most for most, hours in spent)
        return late or (self._budget.trials is not None and tried >= self._budget.trials)

    def ended(self, record: TrialRecord) -> None:
        """Learn how a trial of the search ended."""
        self._ended[record.number] = record
        self._pays = None

    @property
    def pays(self) -> bool:
        """Whether more trials are expected to gain what the budget asks for."""
        least = self._budget.min_gain
        if self._pays is None and least is not None:
            gain = expected_gain([self._ended[number] for number in sorted(self._ended)], maximize=self._maximize)
            self._pays = gain is None or gain.mean >= least
        return self._pays is not False
