"""When a confirmation may stop: a t test looked at after every seed, whose false-positive rate is that of one test."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray

from icd.fields import Count, Range, check_fields
from icd.results.boundary import critical_t, crossing_rate, levels_for, look_weights
from icd.results.confirmation import Verdict
from icd.results.statistics import checked, holm, mean_and_sd, t_test

_FEWEST = 2  # seeds that have a standard deviation
_FUTURES = 4_000

Share = Annotated[float, Range(above=0, below=1)]
Floats = NDArray[np.floating[Any]]


@dataclass(frozen=True, slots=True)
class SequentialTest:
    """The plan of a comparison: when it is looked at, and what counts as a difference.

    At look `n` a difference is shown if the two-sided t test has `p <= level_n`, where `level_n` rises in equal steps
    from the first look to the last. The levels are scaled so that the chance of a false verdict at any look is exactly
    `alpha / comparisons` for normal differences of unknown variance (see ``boundary``); leaving looks out lowers it.
    The plan must be set before the first seed is run: to raise ``planned`` after a look is another test.

    Attributes:
        planned: Seeds at most.
        first: Seeds before the first look; ``planned`` if that is less.
        alpha: Chance of any false ``better`` or ``worse``, two-sided, over all looks and comparisons.
        comparisons: How many share ``alpha`` (Bonferroni); ``decide`` sets it by Holm's steps.
        hopeless_below: A comparison is hopeless when the chance to show a difference later is less than this.
    """

    planned: Count
    first: Annotated[int, Range(at_least=_FEWEST)] = 3
    alpha: Share = 0.05
    comparisons: Count = 1
    hopeless_below: Annotated[float, Range(at_least=0, below=1)] = 0.05

    def __post_init__(self) -> None:
        check_fields(self)

    def level(self, n: int) -> float | None:
        """Nominal two-sided level of the t test after ``n`` seeds; None where there is no look."""
        start = self._start
        if not start <= n <= self.planned:
            return None
        return levels_for(self.planned, start, self.alpha / self.comparisons)[n - start]

    def verdict(self, differences: Sequence[float], *, no_more: bool = False) -> Verdict:
        """Judge all differences so far; positive ones are good.

        Args:
            differences: One for each seed, at most ``planned``.
            no_more: No further seed will come, as after failures.
        """
        values = self._checked(differences)
        level = self.level(values.size)
        if level is not None and t_test(values) <= level:
            return "better" if values.mean() > 0 else "worse"
        if no_more or values.size == self.planned:
            return "no difference shown"
        if level is not None and self.chance(differences) < self.hopeless_below:
            return "hopeless"
        return "open"

    def p_value(self, differences: Sequence[float]) -> float:
        """Give the smallest alpha (for one comparison) at which the verdict at this look is ``better`` or ``worse``.

        This is the repeated p-value of Jennison and Turnbull (Group Sequential Methods, 2000, section 9.3): without a
        difference, the chance that it is ever `p` or less, over all looks, is `p` at most. 1 where there is no look.
        """
        values = self._checked(differences)
        if self.level(values.size) is None:
            return 1.0
        weights = look_weights(self.planned, self._start)
        scale = t_test(values) / weights[values.size - self._start]
        return crossing_rate(tuple(scale * weight for weight in weights), self._start) if scale < 1 else 1.0

    def interval(self, differences: Sequence[float]) -> tuple[float, float] | None:
        """Give the interval to be shown with the verdict: it leaves out 0 exactly for ``better`` and ``worse``.

        `mean -+ c_n sd / sqrt(n)` with the critical value of the look `n` at which it stopped: a repeated confidence
        interval (Jennison and Turnbull, JRSS B 51, 1989). All looks together cover with `1 - alpha / comparisons`,
        so no rule of stopping can lower it.

        INTERVAL_TABLE

        Returns:
            None where there is no look, or where the differences do not vary.
        """
        values = self._checked(differences)
        level, (mean, sd) = self.level(values.size), mean_and_sd(values)
        if level is None or not sd:
            return None
        half = critical_t(level, values.size) * sd / math.sqrt(values.size)
        return mean - half, mean + half

    def chance(self, differences: Sequence[float]) -> float:
        """Chance that a later look shows a difference, in either direction, given what was seen.

        The predictive power under the prior `1 / sigma` (Spiegelhalter, Freedman and Blackburn, Controlled Clinical
        Trials 7, 1986): mean and sd are drawn from their distribution given the data, then the other seeds from them;
        4,000 futures, the same for all data. The few seeds seen know their sd badly, and this counts as hope.
        Equal differences give 0 if they are 0, else 1: they say nothing of the spread.
        """
        values = self._checked(differences)
        n, (mean, sd) = values.size, mean_and_sd(values)
        if n >= self.planned:
            return 0.0
        if not sd:
            return float(mean != 0 or n < _FEWEST)
        looks = np.arange(n + 1, self.planned + 1)
        critical = np.array([critical_t(level, k) if (level := self.level(k)) else math.inf for k in looks.tolist()])
        future = mean / sd + _futures(n, self.planned)
        total = n * mean / sd + np.cumsum(future, axis=1)
        squares = n - 1 + n * (mean / sd) ** 2 + np.cumsum(future**2, axis=1)
        spread = np.sqrt((squares - total**2 / looks) / (looks - 1))
        return float(np.mean(np.any(np.abs(total) / np.sqrt(looks) > critical * spread, axis=1)))

    @property
    def _start(self) -> int:
        return max(_FEWEST, min(self.first, self.planned))

    def _checked(self, differences: Sequence[float]) -> Floats:
        values = checked(differences)
        if values.size > self.planned:
            raise ValueError(f"differences: at most {self.planned} were planned, but got {values.size}")
        return values


@cache
def _futures(n: int, planned: int) -> Floats:
    """Draw further values, less the mean seen and in units of the sd seen, `[4000, planned - n]`."""
    draws = np.random.default_rng([n, planned])
    sigma = np.sqrt((n - 1) / draws.chisquare(n - 1, size=(_FUTURES, 1)))
    shift = draws.standard_normal((_FUTURES, 1)) / math.sqrt(n)
    return sigma * (shift + draws.standard_normal((_FUTURES, planned - n)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """What is said of one comparison among several.

    Attributes:
        verdict: After Holm's correction over the comparisons and for the looks.
        low: Lower end of the interval at the level at which it was judged; None where there is none.
        high: Upper end.
        p: Corrected for the looks.
        p_holm: Corrected for the looks and the comparisons: at most alpha exactly for ``better`` and ``worse``.
    """

    verdict: Verdict
    low: float | None
    high: float | None
    p: float
    p_holm: float


def decide(
    test: SequentialTest, comparisons: Sequence[Sequence[float]], *, no_more: bool = False
) -> tuple[Decision, ...]:
    """Judge several comparisons together, by Holm's steps.

    The smallest p-value is held against `alpha / m`, the next against `alpha / (m - 1)`, and so on to the first that
    fails; the others are judged at the level of that one. The chance of any false ``better`` or ``worse``, over all
    looks and comparisons, is ``alpha`` at most: nothing rejected before the first true null is a null, so that one was
    held against `alpha / (number of nulls)` or less. Each interval by itself covers with `1 - alpha` at least.

    Args:
        test: The plan; its ``comparisons`` is not used.
        comparisons: The differences of each; they may differ in number.
        no_more: No further seed will come for any.
    """
    p_values = [test.p_value(differences) for differences in comparisons]
    left = len(comparisons)
    judged_at = [1] * left
    stopped = False
    for index in sorted(range(len(comparisons)), key=lambda index: p_values[index]):
        judged_at[index] = left
        stopped = stopped or p_values[index] > test.alpha / left
        left -= not stopped
    decisions = []
    for differences, share, p, p_holm in zip(comparisons, judged_at, p_values, holm(p_values), strict=True):
        one = replace(test, comparisons=share)
        low, high = one.interval(differences) or (None, None)
        verdict = one.verdict(differences, no_more=no_more)
        decisions.append(Decision(verdict=verdict, low=low, high=high, p=p, p_holm=p_holm))
    return tuple(decisions)
