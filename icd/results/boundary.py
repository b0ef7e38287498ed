"""The exact chance that a t test repeated after every seed is ever significant, where there is no difference.

Let `x_1, x_2, ...` be independent normal differences of mean 0 and unknown variance, and `t_n` the one-sample t
statistic of the first `n`. Write `r_n = t_n / sqrt(t_n^2 + n - 1)`, the cosine between `(x_1 .. x_n)` and `(1 .. 1)`.
The direction of a normal vector is independent of its length, so the next cosine depends on the past through `r_n` only:

    r_{n+1} = (sqrt(n) r_n cos(phi) + sin(phi)) / sqrt(n + 1),    density of phi on (-pi/2, pi/2) ~ cos(phi)^(n-1)

and `r_n = sin(theta)` with the density of `theta` ~ cos(theta)^(n-2). The chance of crossing is thus a chain of
one-dimensional integrals, as for known variance (Armitage, McPherson and Rowe, JRSS A 132, 1969), but exact at any n.
"""

import math
from functools import cache
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import beta, stdtrit

_GRID = 201  # values of theta at which the chance of a later crossing is kept
_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(40)
_OUTSIDE = (0, 2)  # of the four parts of the range of an angle, those beyond the critical values

Floats = NDArray[np.floating[Any]]


def critical_t(level: float, n: int) -> float:
    """Give the two-sided critical value: `P(|t_n| > c) = level` with `n - 1` degrees of freedom."""
    return -float(stdtrit(n - 1, level / 2))


def crossing_rate(levels: tuple[float, ...], first: int) -> float:
    """Chance that `|t_n| > critical_t(level_n, n)` at any of the looks `n = first, first + 1, ...`.

    Args:
        levels: Nominal two-sided level at each look, each in (0, 1).
        first: Number of seeds at the first look, at least 2.

    Returns:
        Between the largest of the levels and their sum. The integrals are within 0.1 % of it.
    """
    later, inner = np.zeros(_GRID), np.linspace(0.0, 1.0, _GRID)
    for n in range(first + len(levels) - 1, first - 1, -1):
        edge = _edge(levels[n - first], n)
        theta = np.linspace(0, edge, _GRID)
        if n < first + len(levels) - 1:
            later = _crossing_after(theta, n, inner, later, levels[n + 1 - first])
        inner = theta
    at, weight = (_NODES + 1) / 2 * edge, _WEIGHTS / 2 * edge
    density = np.cos(at) ** (first - 2) / beta(0.5, (first - 1) / 2)
    rate = levels[0] + 2 * float(weight @ (density * np.interp(at, inner, later)))
    return min(max(rate, *levels), sum(levels), 1.0)


def _edge(level: float, n: int) -> float:
    """Angle `theta` at which `t_n` is critical: `tan(theta) = t / sqrt(n - 1)`."""
    return math.atan(critical_t(level, n) / math.sqrt(n - 1))


def _crossing_after(theta: Floats, n: int, grid: Floats, later: Floats, level: float) -> Floats:
    """Chance of a crossing after look `n`, for each angle there.

    `sqrt(n) r cos(phi) + sin(phi)` is `A sin(u)` with `u = phi + delta`, so that the parts of the range of `phi` that
    cross at `n + 1` end at known places, and each part is integrated by itself.

    Args:
        theta: `[G]`, not negative, as everything is symmetric.
        n: The look.
        grid: `[G]`, angles at the look `n + 1`.
        later: `[G]`, chance of a crossing after the look `n + 1`, at those angles.
        level: Nominal level at the look `n + 1`.
    """
    r = np.sin(theta)
    delta = np.arctan(math.sqrt(n) * r)
    scale = np.sqrt((1 + n * r**2) / (n + 1))
    turn = np.arcsin(np.minimum(np.sin(_edge(level, n + 1)) / scale, 1.0))
    low, high = delta - math.pi / 2, delta + math.pi / 2
    cuts = [low, np.maximum(low, -turn), np.minimum(turn, high), np.clip(math.pi - turn, turn, high), high]
    total = np.zeros_like(theta)
    for part, (start, stop) in enumerate(pairwise(np.minimum(cut, high)[:, None] for cut in cuts)):
        half = (stop - start) / 2
        u = start + half * (_NODES + 1)
        density = np.clip(np.cos(u - delta[:, None]), 0.0, None) ** (n - 1) / beta(0.5, n / 2)
        after = np.arcsin(np.clip(np.abs(scale[:, None] * np.sin(u)), 0.0, 1.0))
        crossing = np.ones_like(u) if part in _OUTSIDE else np.interp(after, grid, later)
        total += np.sum(half * _WEIGHTS * density * crossing, axis=1)
    return total


@cache
def levels_for(planned: int, first: int, alpha: float) -> tuple[float, ...]:
    """Give the nominal two-sided level of each look, so that the chance of any crossing is ``alpha``.

    The level at look `n` is `scale * look_weight(n)`. ``scale`` is found to a relative error of 1e-6.
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
