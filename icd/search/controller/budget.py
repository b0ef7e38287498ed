"""What a sweep may still spend."""

import time

from icd.config.sweep import Budget


class BudgetTracker:
    """Hours and GPU hours against a budget, over all drivers that a sweep has had.

    Args:
        budget: What may be spent.
        seconds_before: That earlier drivers have run.
        gpus_per_trial: GPUs that a trial holds while it trains.
    """

    def __init__(self, budget: Budget, seconds_before: float, gpus_per_trial: float) -> None:
        self._budget, self._gpus = budget, gpus_per_trial
        self._seconds_before, self._started = seconds_before, time.monotonic()
        self._trained: dict[int, float] = {}

    def spend(self, number: int, seconds: float) -> None:
        """Count what the epochs of a trial took so far."""
        self._trained[number] = seconds

    @property
    def seconds(self) -> float:
        """That the sweep has run, this driver included."""
        return self._seconds_before + time.monotonic() - self._started

    @property
    def out_of_time(self) -> bool:
        """Whether no hours are left, of the clock or of GPUs."""
        gpu_seconds = self._gpus * sum(self._trained.values())
        spent = ((self._budget.hours, self.seconds), (self._budget.gpu_hours, gpu_seconds))
        return any(most is not None and seconds / 3600 > most for most, seconds in spent)

    def over(self, tried: int) -> bool:
        """Whether no further trial may begin, after so many."""
        return self.out_of_time or (self._budget.trials is not None and tried >= self._budget.trials)
