"""How alike a difference of two configurations is over several teacher-student pairs.

Shape key: P teacher-student pairs.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import fdtrc

from icd.results.stats import FLOOR, Floats

_RESAMPLES = 2000  # of the bootstrap


@dataclass(frozen=True, slots=True, kw_only=True)
class OverPairs:
    """How alike a difference is over several teacher-student pairs."""

    improvement: float  # chance that a run of the first is better than one of the second, mean over the pairs
    low: float | None  # of its 95 % interval; None where the runs say nothing of that
    high: float | None
    interaction: float | None  # p-value of "the difference is the same on every pair"; None without a spread

    @property
    def chance(self) -> str:
        """The chance in words, with its interval where it has one."""
        held = "" if self.low is None or self.high is None else f" (95 % interval {self.low:.0%} to {self.high:.0%})"
        return f"{self.improvement:.0%}{held}"


def over_pairs(values: Mapping[str, tuple[Sequence[float], Sequence[float]]]) -> OverPairs | None:
    """Compare two configurations pair by pair; describes, and decides nothing.

    The chance is `mean_pairs P(X > Y) + P(X = Y) / 2` over all runs X and Y of a pair, with a percentile bootstrap that
    draws runs within each pair (Agarwal et al., NeurIPS 2021, section 4.3). There is no interval if either one has only
    one run on some pair, or if all draws agree, as when every run of one beats every run of the other. The
    interaction is the F test of the differences `d_p`, with weights `w_p = 1 / (1 / n_p + 1 / m_p)`:
    `sum_p w_p (d_p - d)^2 / (P - 1) / s^2` on P - 1 and the error's degrees of freedom, with the variance `s^2` pooled
    within pairs and configurations. None with fewer than two pairs, or without runs of both on each.
    """
    both = [(np.asarray(one, dtype=float), np.asarray(other, dtype=float)) for one, other in values.values()]
    if len(both) < 2 or not all(one.size and other.size for one, other in both):
        return None
    draw, drawn = np.random.default_rng(0), []
    wins = [np.sign(one[:, None] - other[None, :]) / 2 + 0.5 for one, other in both]
    for own in wins:
        rows, columns = (draw.integers(size, size=(_RESAMPLES, size)) for size in own.shape)
        drawn.append(own[rows[:, :, None], columns[:, None, :]].mean(axis=(1, 2)))
    low, high = map(float, np.quantile(np.mean(drawn, axis=0), [0.025, 0.975]))
    held = (low, high) if low < high and min(min(own.shape) for own in wins) > 1 else (None, None)
    chance = float(np.mean([own.mean() for own in wins]))
    return OverPairs(improvement=chance, low=held[0], high=held[1], interaction=_interaction(both))


def _interaction(both: Sequence[tuple[Floats, Floats]]) -> float | None:
    df = sum(one.size + other.size - 2 for one, other in both)
    if not df:
        return None
    squares = sum(float(((part - part.mean()) ** 2).sum()) for pair in both for part in pair)
    variance = max(squares / df, FLOOR**2)
    difference_P = np.array([one.mean() - other.mean() for one, other in both])
    weight_P = np.array([1 / (1 / one.size + 1 / other.size) for one, other in both])
    spread = float(weight_P @ (difference_P - np.average(difference_P, weights=weight_P)) ** 2)
    return float(fdtrc(len(both) - 1, df, spread / (len(both) - 1) / variance))
