"""What a sweep may still spend."""

import time

from icd.config.sweep import Budget


class BudgetTracker:
    """Hours and GPU hours against a budget, over all drivers that a sweep has had."""

    def __init__(self, budget: Budget, seconds_before: float, gpus_per_trial: float) -> None:
        self._budget, self._gpus = budget, gpus_per_trial
        self._seconds_before, self._started = seconds_before, time.monotonic()
        self._gpu_seconds = 0.0

    def spend(self, seconds: float) -> None:
        """Count what a trial's epochs took."""
        self._gpu_seconds += seconds * self._gpus

    @property
    def seconds(self) -> float:
        """That the sweep has run, this driver included."""
        return self._seconds_before + time.monotonic() - self._started

    def over(self, tried: int) -> bool:
        """Whether nothing is left, after so many trials."""
        spent = ((self._budget.hours, self.seconds / 3600), (self._budget.gpu_hours, self._gpu_seconds / 3600))
        if any(most is not None and hours > most for most, hours in spent):
            return True
        return self._budget.trials is not None and tried >= self._budget.trials
