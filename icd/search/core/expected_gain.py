"""What ten more trials are worth: estimated from what ten of the trials so far were worth.

Take ten of the newest half of the trials away, any ten, and see by how much the best value falls. The mean of that over
all choices of ten needs no model: the k best values are all among the ten with probability

    p_k = prod_{i<k} (10 - i) / (n - i),

and then the best falls from x_1 to x_{k+1}. So the expected fall is sum_k p_k (x_k - x_{k+1}), where no value is taken
to be below the best one of the older half. If the next ten trials are like the newest ones, they add as much as these
did, or a little less. Calibration: docs/results, patience.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from icd.search.core.records import TrialRecord

AHEAD = 10  # trials
LEAST = 20  # trials that must have ended
_NEWEST = 20  # at least so many of them are looked at


@dataclass(frozen=True, slots=True, kw_only=True)
class ExpectedGain:
    """By how much more trials are expected to raise the best value, in units of the objective.

    Attributes:
        trials: How many more.
        mean: Expected.
        low: In one case of twenty it is not above this.
        high: In one case of twenty it is above this.
    """

    trials: int
    mean: float
    low: float
    high: float

    def to_data(self) -> dict[str, Any]:
        """Write it for JSON."""
        return asdict(self)


def expected_gain(records: Sequence[TrialRecord], *, maximize: bool) -> ExpectedGain | None:
    """Say what ten more trials of a search are worth; None before twenty have ended.

    Args:
        records: Trials. Those that are complete count with their first objective, and those that were pruned or
            diverged as some that could not be the best; others do not count.
        maximize: Whether the objective is to be large.
    """
    sign = 1.0 if maximize else -1.0
    ended = [record for record in records if record.state in ("complete", "pruned")]
    values = [sign * record.values[0] if record.state == "complete" else float("-inf") for record in ended]
    return gain_of(values)


def gain_of(values: Sequence[float]) -> ExpectedGain | None:
    """The same, from values of which the largest is best, in the order of the trials."""
    if len(values) < LEAST or max(values) == float("-inf"):
        return None
    newest = max(_NEWEST, len(values) // 2)
    finite = [value for value in values if value != float("-inf")]
    floor = max((value for value in values[:-newest] if value != float("-inf")), default=min(finite))
    ordered = [max(value, floor) for value in sorted(values[-newest:], reverse=True)]
    if ordered[0] == floor:
        return ExpectedGain(trials=AHEAD, mean=0.0, low=0.0, high=0.0)
    chance, mean, low, high = 1.0, 0.0, 0.0, 0.0
    for k in range(AHEAD):
        chance *= (AHEAD - k) / (len(ordered) - k)
        mean += chance * (ordered[k] - ordered[k + 1])
        fall = ordered[0] - ordered[k + 1]
        high = fall if chance > 0.05 else high
        low = fall if chance >= 0.95 else low
    return ExpectedGain(trials=AHEAD, mean=mean, low=low, high=high)
