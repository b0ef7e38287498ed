"""What chosen configurations show on shared seeds: one model, one error rate, one interval for each difference.

Words: a *cell* is one configuration, a *block* is what its runs share with the runs of other cells (a seed), and a
*pair* is two cells whose difference is asked for, the first minus the second. Values are accuracies in percent, means
over several teacher-student pairs where there are some; differences are in points. The figures that these rules reach
are made by ``bench/claims.py``.
"""

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import chdtr, fdtrc, log_ndtr, stdtr, stdtrit

Floats = NDArray[np.floating[Any]]
Values = Mapping[Any, Mapping[Any, float]]  # by cell and block, both hashable
Pairs = Sequence[tuple[Any, Any]]  # of cells
Joint = tuple[int, bytes]  # how many differences there are, and how they are correlated

POWER = 0.8  # at which a difference is called detectable
_GUARD = 0.025  # level of the variance test, for each cell of a pair
FLOOR = 0.005  # smallest standard deviation in points: accuracies are rounded
_DRAWS = 2**12  # of the largest statistic
_HOPE = 0.05  # a difference is futile when its chance to be shown is less


@dataclass(frozen=True)
class Fit:
    """The estimate of one difference, without regard to any others."""

    difference: float  # in points
    se: float  # its standard error
    df: float  # degrees of freedom of that
    pooled: bool  # whether the spread of all cells was used, or that of its own two


@dataclass(frozen=True)
class Estimate(Fit):
    """What the data say of one difference of a family.

    All intervals of a family, from ``low`` to ``high``, hold the truth together with 1 - alpha; ``p`` is adjusted for
    the family, and the interval leaves out 0 exactly where it is alpha or less.
    """

    low: float
    high: float
    p: float
    detectable: float  # the true difference that a repetition would show with a chance of 80 %


def compare(
    values: Values, pairs: Pairs, *, alpha: float = 0.05, families: int = 1, floor: float = FLOOR
) -> list[Estimate | None]:
    """Estimate differences that are one family: with chance alpha at most, any interval misses the truth.

    The model is `value = cell + block + error`, fitted by least squares, with one variance for all errors, on
    `N - rank` degrees of freedom (Searle, Linear Models, 1971, chapter 5). Intervals are `difference -+ c se`, and `c`
    is the quantile of the largest |t| of the family given how its differences are correlated: the single-step method
    of Dunnett (JASA 50, 1955) for any contrasts (Hothorn, Bretz and Westfall, Biometrical Journal 50, 2008).

    One variance is no safe assumption. A pair is judged by its own two cells alone where the errors of either vary more
    than those of all other cells, by an F test of level 0.025 for each. The same is done where they share too few
    blocks for the model. Cells that share two blocks or more are then compared by a paired t over those blocks, others
    by Welch's t (Biometrika 34, 1947), with Satterthwaite's degrees of freedom (Biometrics Bulletin 2, 1946); both with
    Bonferroni's correction. A cell that varies less than the others needs no guard: its interval is too wide, not too
    narrow. What a block adds to all its cells changes none of this, however large it is.

    A run without a value is not among them. So many ``families`` share alpha (Bonferroni). No spread below ``floor``
    is believed (``rounding``). An estimate is None where a cell has no value or no spread can be estimated.
    """
    model = _Model(values, floor)
    joint = model.joint(pairs)
    return [_estimate(joint, _fit(model, pair), alpha, families) for pair in pairs]


def rounding(images: int) -> float:
    """Give the standard deviation that counting whole images adds to an accuracy: `(100 / N) / sqrt(12)` points.

    ``FLOOR`` where that is less, or N is 0 for not known. Two runs may agree by rounding alone.
    """
    return max(FLOOR, 100 / images / math.sqrt(12)) if images else FLOOR


def futile(values: Values, pairs: Pairs, *, done: int, planned: int, alpha: float = 0.05) -> list[bool]:
    """Say of each pair whether the blocks that are left would hardly show a difference.

    It is the predictive power of Spiegelhalter, Freedman and Blackburn (Controlled Clinical Trials 7, 1986) with a flat
    prior: given the difference d and its standard error s after `done` blocks, the one after `planned` blocks is
    `d + t sqrt(s^2 - s'^2)` with `s' = s sqrt(done / planned)`. Futile is a chance below 5 % that it leaves
    `-+ c s'`. It only ends runs: nothing is shown early, so it cannot raise the chance of a false difference.
    """
    model, verdicts = _Model(values), []
    growth, joint = (planned - 1) / max(done - 1, 1), model.joint(pairs)
    for fit in (_fit(model, pair) for pair in pairs):
        if fit is None:
            verdicts.append(False)
            continue
        end = fit.se * math.sqrt(done / planned)
        bound = _critical(joint, fit.pooled, fit.df * growth, alpha) * end
        spread = math.sqrt(fit.se**2 - end**2)
        far, near = -bound - abs(fit.difference), abs(fit.difference) - bound
        verdicts.append(bool(stdtr(fit.df, near / spread) + stdtr(fit.df, far / spread) < _HOPE))
    return verdicts


def expected_maximum(count: int) -> float:
    """Give the mean of the largest of some standard normals: 0.56 of two, 0.85 of three, 1.54 of ten.

    `int_0^inf (1 - Phi(x)^n - Phi(-x)^n) dx` (Tippett, Biometrika 17, 1925). So much does the best of equally good
    configurations overstate, in standard errors of one mean; where they differ it is less.
    """
    nodes, weights = np.polynomial.legendre.leggauss(200)
    at = 6.0 * (nodes + 1)  # to 12 standard deviations; the chance beyond is 1e-33
    excess = -np.expm1(count * log_ndtr(at)) - np.exp(count * log_ndtr(-at))
    return float(6.0 * weights @ excess)


def simplest_within_one_se(values: Values, parts: Mapping[Any, int]) -> tuple[Hashable, float]:
    """Give the cell of the fewest parts that one standard error does not tell from the best, and that error; 0 for it.

    A cell qualifies where its difference to the best is `-se` or more, with the standard error of that difference
    (Breiman et al., Classification and Regression Trees, 1984, section 3.4.3, where the best one's own error is taken).
    The best, and the better one of two with as many parts, is that by the model: cells may have other blocks.
    It is a preference and no test: one that is truly worse by one such error qualifies in half of all cases, by two in
    one of six.
    """
    model = _Model(values)
    effects = dict(zip(model.own, model.coefficients.tolist(), strict=False))
    best = max(parts, key=lambda cell: effects[cell])
    for cell in sorted(parts, key=lambda cell: (parts[cell], -effects[cell])):
        fit = _fit(model, (cell, best)) if parts[cell] < parts[best] else None
        if fit is not None and fit.difference >= -fit.se:
            return cell, fit.se
    return best, 0.0


class _Model:
    """Least squares of cells and blocks.

    Shape key: N values.
    """

    def __init__(self, values: Values, floor: float = FLOOR) -> None:
        self.floor = floor
        self.own = {cell: dict(runs) for cell, runs in values.items() if runs}
        y = np.array([value for runs in self.own.values() for value in runs.values()], dtype=float)
        blocks = list(dict.fromkeys(block for runs in values.values() for block in runs))
        self.cell_N = np.repeat(np.arange(len(self.own)), [len(runs) for runs in self.own.values()])
        block_N = np.array([blocks.index(block) for runs in values.values() for block in runs], dtype=int)
        design = np.concatenate([np.eye(len(self.own))[self.cell_N], np.eye(len(blocks))[block_N]], axis=1)
        self.inverse = np.linalg.pinv(design.T @ design, hermitian=True)  # of the normal equations
        self.coefficients = self.inverse @ design.T @ y
        self.projection = self.inverse @ design.T @ design  # onto what the design's rows span
        self.maker_NN = np.eye(y.size) - design @ self.inverse @ design.T  # makes residuals of values
        self.residual_N, self.df = self.maker_NN @ y, round(float(np.trace(self.maker_NN)))
        self.squares = float(self.residual_N @ self.residual_N)
        self.variance = max(self.squares / self.df, floor**2) if self.df else math.nan

    def row(self, pair: tuple[Any, Any]) -> Floats:
        """Write a difference as weights of the coefficients; blocks have none."""
        places = [*self.own, *[None] * (len(self.coefficients) - len(self.own))]
        return np.array([float(cell == pair[0]) - float(cell == pair[1]) for cell in places])

    def joint(self, pairs: Pairs) -> Joint:
        """Describe how differences are correlated, those whose cells have a value."""
        rows = np.array([self.row(pair) for pair in pairs if {*pair} <= self.own.keys()])
        if len(rows) < 2:
            return 1, b""
        covariance = rows @ self.inverse @ rows.T
        scale = np.sqrt(np.clip(np.diag(covariance), 1e-12, None))
        correlation = np.round(covariance / np.outer(scale, scale), 6)
        return len(rows), correlation.tobytes()


def _fit(model: _Model, pair: tuple[Any, Any]) -> Fit | None:
    """Estimate a difference by the model where blocks tell its cells apart, else by its own cells alone."""
    if not {*pair} <= model.own.keys():
        return None
    row = model.row(pair)
    is_connected = bool(np.abs(row @ model.projection - row).max() < 1e-6)  # a combination of the design's rows
    if model.df and is_connected and not any(_varies_more(model, cell) for cell in pair):
        se = math.sqrt(float(row @ model.inverse @ row) * model.variance)
        return Fit(_points(float(row @ model.coefficients)), se, model.df, True)
    one, other = pair
    return _fit_alone(model.own[one], model.own[other], model.floor)


def _fit_alone(one: Mapping[Any, float], other: Mapping[Any, float], floor: float) -> Fit | None:
    """Estimate a difference by the blocks that both cells have, or by two independent means where these are too few."""
    gaps = [one[block] - other[block] for block in one if block in other]
    parts = [gaps] if len(gaps) > 1 else [[*one.values()], [-value for value in other.values()]]
    if min(map(len, parts)) < 2:
        return None
    least = floor**2 * (3 - len(parts))
    own = [max(float(np.var(part, ddof=1)), least) / len(part) for part in parts]
    squared = sum(variance**2 / (len(part) - 1) for variance, part in zip(own, parts, strict=True))
    difference = sum(float(np.mean(part)) for part in parts)
    return Fit(_points(difference), math.sqrt(sum(own)), sum(own) ** 2 / squared, False)


def _points(difference: float) -> float:
    """Drop what the arithmetic left of a difference, and the sign of nothing."""
    return round(difference, 9) + 0.0


def _varies_more(model: _Model, cell: Hashable) -> bool:
    """Test whether the errors of a cell vary more than those of all others.

    What a cell adds to the squares of the residuals is independent of what is there without it, so their ratio is F
    where all errors have one variance, whatever the blocks add (Chow, Econometrica 28, 1960).
    """
    own_N = model.cell_N == [*model.own].index(cell)
    maker = model.maker_NN[np.ix_(own_N, own_N)]
    inverse = np.linalg.pinv(maker, rcond=1e-9, hermitian=True)
    own_df = round(float(np.trace(inverse @ maker)))
    own, other_df = float(model.residual_N[own_N] @ inverse @ model.residual_N[own_N]), model.df - own_df
    if not own_df or not other_df:
        return False
    least = model.floor**2
    ratio = max(own / own_df, least) / max((model.squares - own) / other_df, least)
    return bool(fdtrc(own_df, other_df, ratio) < _GUARD)


def _estimate(joint: Joint, fit: Fit | None, alpha: float, families: int) -> Estimate | None:
    if fit is None:
        return None
    t = abs(fit.difference) / fit.se
    is_joint = fit.pooled and joint[0] > 1
    p = _chance(joint, t, fit.df) if is_joint else joint[0] * 2 * float(stdtr(fit.df, -t))
    critical = _critical(joint, fit.pooled, fit.df, alpha / families)
    return Estimate(
        **vars(fit),
        low=fit.difference - critical * fit.se,
        high=fit.difference + critical * fit.se,
        p=min(1.0, families * p),
        detectable=(critical + float(stdtrit(fit.df, POWER))) * fit.se,
    )


def _critical(joint: Joint, pooled: bool, df: float, alpha: float) -> float:
    """Give the value that any |t| exceeds with chance alpha."""
    if pooled and joint[0] > 1:
        return _root(joint, df, alpha)
    return -float(stdtrit(df, alpha / 2 / joint[0]))


def _chance(joint: Joint, t: float, df: float) -> float:
    """Chance that any |t| of some differences is as large, whose estimates share one standard deviation.

    With `M` the largest |z| of correlated normals and `s` the standard deviation, `P(M / s >= t)` is the mean over `M`
    of `P(chi2 <= df (M / t)^2)`.
    """
    return float(np.mean(chdtr(df, df * (_largest(*joint) / t) ** 2))) if t else 1.0


@cache
def _largest(count: int, correlation: bytes) -> Floats:
    """Draw the largest |z| by a fixed scrambled Sobol sequence: the same differences always give the same answer.

    Owen, Journal of Complexity 14, 1998.
    """
    from scipy.stats import qmc

    values, vectors = np.linalg.eigh(np.frombuffer(correlation).reshape(count, count))
    root = vectors[:, values > 1e-6] * np.sqrt(values[values > 1e-6])
    normals = qmc.MultivariateNormalQMC(np.zeros(root.shape[1]), rng=np.random.default_rng(0)).random(_DRAWS)
    largest: Floats = np.abs(normals @ root.T).max(axis=1)
    return largest


@cache
def _root(joint: Joint, df: float, alpha: float) -> float:
    low, high = 0.0, 1.0
    while _chance(joint, high, df) > alpha:
        low, high = high, 2 * high
    while (middle := (low + high) / 2) not in (low, high):
        low, high = (middle, high) if _chance(joint, middle, df) > alpha else (low, middle)
    return high
