"""What ten more trials are worth, from the best values so far.

The best quarter of n values is on average e above the next value. If the tail falls off exponentially, values that are
above any level in it are e above it on average. The largest of n is then e (ln n + G) with G of Gumbel's distribution,
the difference of two such is logistic, and for more trials that are like those so far

    E[gain of a more] = e ln(1 + a / n),        P(gain of a more > g) = a / (a + n exp(g / e)).

Values near an optimum have a shorter tail, and a search that has converged draws closer ones: then it errs upwards, so
that a sweep ends late and not early. Calibration: docs/results, expected gain.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from icd.search.core.records import TrialRecord

AHEAD = 10  # trials
LEAST = 20  # trials that must have ended
_FEWEST = 5  # values of a tail
_ODDS = 39  # against a gain above ``high`` if e were known: P = 1 / 40; as e is estimated, it happens more often


@dataclass(frozen=True, slots=True, kw_only=True)
class ExpectedGain:
    """By how much more trials are expected to raise the best value, in units of the objective.

    Attributes:
        trials: How many more.
        mean: Expected.
        high: In one case of fifteen (20 trials) to thirty (70) it is above this; in many it is nothing. Never below
            ``mean``, which it would be from 380 trials on.
    """

    trials: int
    mean: float
    high: float


def expected_gain(records: Sequence[TrialRecord], *, maximize: bool) -> ExpectedGain | None:
    """Say what ten more trials of a search are worth; None before twenty have ended.

    Args:
        records: Trials. Those that are complete count with their first objective, and those that were pruned or
            diverged as some that are not the best; others do not count.
        maximize: Whether the objective is to be large.
    """
    sign = 1.0 if maximize else -1.0
    ended = [record for record in records if record.state in ("complete", "pruned")]
    values = [sign * record.values[0] if record.state == "complete" else float("-inf") for record in ended]
    return gain_of(values)


def gain_of(values: Sequence[float]) -> ExpectedGain | None:
    """The same, from values of which the largest is best."""
    count, ordered = len(values), sorted((value for value in values if value != float("-inf")), reverse=True)
    tail = min(max(_FEWEST, count // 4), len(ordered) - 1)
    if count < LEAST or tail < _FEWEST:
        return None
    excess = sum(ordered[:tail]) / tail - ordered[tail]
    mean = excess * math.log1p(AHEAD / count)
    return ExpectedGain(trials=AHEAD, mean=mean, high=max(mean, excess * math.log(_ODDS * AHEAD / count)))
