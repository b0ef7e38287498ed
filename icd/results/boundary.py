"""The chance that a t test repeated after every seed is ever significant, where there is no difference.

Let `x_1, x_2, ...` be independent normal differences of mean 0 and unknown variance, and `t_n` the one-sample t
statistic of the first `n`. Write `r_n = t_n / sqrt(t_n^2 + n - 1)`, the cosine between `(x_1 .. x_n)` and `(1 .. 1)`.
The direction of a normal vector is independent of its length, so of the past only `r_n` counts for the next cosine:

    r_{n+1} = (sqrt(n) r_n cos(phi) + sin(phi)) / sqrt(n + 1),    density of phi on (-pi/2, pi/2) ~ cos(phi)^(n-1)

and `r_n = sin(theta)` with the density of `theta` ~ cos(theta)^(n-2). The chance of crossing is thus a chain of
one-dimensional integrals, as for known variance (Armitage, McPherson and Rowe, JRSS A 132, 1969), but exact at any n.
"""

import math
from functools import cache
from itertools import pairwise

import numpy as np
from scipy.special import beta, stdtrit

from icd.results.statistics import Floats

_GRID = 161  # values of theta at which the chance of a later crossing is kept
_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(48)
_OUTSIDE = (0, 2)  # of the four parts of the range of an angle, those beyond the critical values


def critical_t(level: float, n: int) -> float:
    """Give the two-sided critical value: `P(|t_n| > c) = level` with `n - 1` degrees of freedom."""
    return -float(stdtrit(n - 1, level / 2))


def crossing_rate(levels: tuple[float, ...], first: int) -> float:
    """Chance that `|t_n| > critical_t(level_n, n)` at any of the looks `n = first, first + 1, ...`.

    Args:
        levels: Nominal two-sided level at each look, each in (0, 1).
        first: Number of seeds at the first look, at least 2.

    Returns:
        Between the largest of the levels and their sum; within 1 % of itself where the largest is 0.01 or more, and
        within 5 % down to 1e-6.
    """
    edges = [_edge(level, n) for n, level in enumerate(levels, first)]
    grids = [np.linspace(0.0, edge, _GRID) for edge in edges]
    later: Floats = np.zeros(_GRID)
    for look in range(len(levels) - 2, -1, -1):
        later = _crossing_after(grids[look], first + look, (grids[look + 1], later), edges[look + 1])
    at, weight = (_NODES + 1) / 2 * edges[0], _WEIGHTS / 2 * edges[0]
    density = np.cos(at) ** (first - 2) / beta(0.5, (first - 1) / 2)
    rate = levels[0] + 2 * float(weight @ (density * np.interp(at, grids[0], later)))
    return min(max(rate, *levels), sum(levels), 1.0)


def _edge(level: float, n: int) -> float:
    """Angle `theta` at which `t_n` is critical: `tan(theta) = t / sqrt(n - 1)`."""
    return math.atan(critical_t(level, n) / math.sqrt(n - 1))


def _crossing_after(theta: Floats, n: int, after: tuple[Floats, Floats], edge: float) -> Floats:
    """Chance of a crossing after look `n`, for each angle there.

    `sqrt(n) r cos(phi) + sin(phi)` is `A sin(u)` with `u = phi + delta`, so that the parts of the range of `phi` that
    cross at `n + 1` end at known places, and each part is integrated by itself.

    Args:
        theta: `[G]`, not negative, as everything is symmetric.
        n: The look.
        after: Angles at the look `n + 1`, `[G]`, and the chance of a crossing after it at each, `[G]`.
        edge: Critical angle at the look `n + 1`.
    """
    r = np.sin(theta)
    delta = np.arctan(math.sqrt(n) * r)
    scale = np.sqrt((1 + n * r**2) / (n + 1))
    turn = np.arcsin(np.minimum(math.sin(edge) / scale, 1.0))
    low, high = delta - math.pi / 2, delta + math.pi / 2
    cuts = [low, np.maximum(low, -turn), np.minimum(turn, high), np.clip(math.pi - turn, turn, high), high]
    total = np.zeros_like(theta)
    for part, (start, stop) in enumerate(pairwise(np.minimum(cut, high)[:, None] for cut in cuts)):
        half = (stop - start) / 2
        u = start + half * (_NODES + 1)
        density = np.clip(np.cos(u - delta[:, None]), 0.0, None) ** (n - 1) / beta(0.5, n / 2)
        angle = np.arcsin(np.clip(np.abs(scale[:, None] * np.sin(u)), 0.0, 1.0))
        crossing = np.ones_like(u) if part in _OUTSIDE else np.interp(angle, *after)
        total += np.sum(half * _WEIGHTS * density * crossing, axis=1)
    return total


@cache
def levels_for(planned: int, first: int, alpha: float) -> tuple[float, ...]:
    """Give the nominal two-sided level of each look, so that the chance of any crossing is ``alpha``.

    They are the ``look_weights`` times one scale, which is found to a relative error of 1e-6 of ``crossing_rate``.
    """
    weights = look_weights(planned, first)
    scale = alpha / sum(weights)
    for _ in range(50):  # the rate is nearly proportional to the scale: five steps do
        rate = crossing_rate(tuple(scale * weight for weight in weights), first)
        scale *= alpha / rate
        if abs(rate - alpha) < 1e-6 * alpha:
            break
    return tuple(scale * weight for weight in weights)


def look_weights(planned: int, first: int) -> tuple[float, ...]:
    """Level of each look in units of the last one's: 1/3, 2/3, 1 for looks after 3, 4 and 5 seeds.

    Rising levels keep most of the error for the last look, where a t test has most degrees of freedom.
    """
    looks = planned - first + 1
    return tuple(look / looks for look in range(1, looks + 1))
