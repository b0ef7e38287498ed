"""Error rates and coverage over simulated studies, whose true differences and noise are known.

Rates are binomial: a rate that should be `p` is allowed `p + 3.3 sqrt(p (1 - p) / n)` over `n` studies, which a right
one passes in 1999 of 2000 cases; all draws are seeded. Noise has mean 0 and sd 1, so effects are in its sd.
"""

import math
from functools import cache

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.special import stdtr

from icd.results.boundary import critical_t
from icd.results.sequential import SequentialTest, decide
from icd.results.statistics import checked, holm, paired, signed_rank, t_test
from icd.results.winners_curse import expected_overstatement, shrunk

STUDIES = 4000
KINDS = ("normal", "heavy", "skewed")
Floats = NDArray[np.float64]


def noise(kind: str, shape: tuple[int, ...], seed: int = 0) -> Floats:
    draws = np.random.default_rng([seed, *map(ord, kind)])
    if kind == "normal":
        return draws.standard_normal(shape)
    if kind == "heavy":
        return draws.standard_t(5, shape) / math.sqrt(5 / 3)
    return (draws.gamma(16, size=shape) - 16) / 4  # skewness 0.5


def above(rate: float, studies: int) -> float:
    return rate + 3.3 * math.sqrt(rate * (1 - rate) / studies)


def below(rate: float, studies: int) -> float:
    return rate - 3.3 * math.sqrt(rate * (1 - rate) / studies)


def p_values(values: Floats) -> Floats:
    """Of the t test over the last axis."""
    n = values.shape[-1]
    t = values.mean(-1) / values.std(-1, ddof=1) * math.sqrt(n)
    return 2 * stdtr(n - 1, -np.abs(t))


def looks(values: Floats, test: SequentialTest) -> tuple[Floats, Floats, Floats]:
    """Mean, half width of the interval and size of t in units of the critical one, at each look from the third seed."""
    n = np.arange(3, test.planned + 1)
    mean = np.stack([values[..., :k].mean(-1) for k in n], -1)
    error = np.stack([values[..., :k].std(-1, ddof=1) / math.sqrt(k) for k in n], -1)
    half = error * np.array([critical_t(test.level(k), k) for k in n.tolist()])
    return mean, half, np.abs(mean) / half


@cache
def hopeless_below(test: SequentialTest, n: int) -> float:
    """The `|mean| / sd` below which ``n`` differences are hopeless, found by halving, as the verdict rises with it."""
    unit = np.linspace(-1, 1, n)
    unit /= unit.std(ddof=1)
    low, high = 0.0, 20.0
    while high - low > 1e-3:
        middle = (low + high) / 2
        low, high = (middle, high) if test.verdict((unit + middle).tolist()) == "hopeless" else (low, middle)
    return low


def stopped(values: Floats, test: SequentialTest) -> Floats:
    """Index of the look at which the rule stops, for each study."""
    mean, half, size = looks(values, test)
    stop = size > 1
    for index, n in enumerate(range(3, test.planned)):
        sd = half[:, index] / critical_t(test.level(n), n) * math.sqrt(n)
        stop[:, index] |= np.abs(mean[:, index]) / sd < hopeless_below(test, n)
    stop[:, -1] = True
    return stop.argmax(-1)


def at(stop: Floats, *columns: Floats) -> tuple[Floats, ...]:
    return tuple(np.take_along_axis(column, stop[:, None], 1)[:, 0] for column in columns)


@pytest.mark.parametrize("planned", [5, 10])
def test_the_vectorised_rule_is_the_verdict(planned: int) -> None:
    test = SequentialTest(planned)
    values = np.round(noise("normal", (60, planned)) + np.linspace(0, 4, 60)[:, None], 4)
    for study, stop in zip(values.tolist(), stopped(values, test), strict=True):
        verdicts = [test.verdict(study[:n]) for n in range(3, planned + 1)]
        assert [verdict == "open" for verdict in verdicts].index(False) == stop


@pytest.mark.parametrize("n", [5, 10])
@pytest.mark.parametrize("kind", KINDS)
def test_interval_of_a_fixed_number_covers(kind: str, n: int) -> None:
    found = [paired(row) for row in (noise(kind, (1000, n)) + 0.7).tolist()]
    coverage = np.mean([one.low <= 0.7 <= one.high for one in found])
    assert below(0.93, 1000) <= coverage <= above(0.97, 1000)


@pytest.mark.parametrize("n", [3, 5, 10])
@pytest.mark.parametrize("kind", KINDS)
def test_false_positive_rate_of_a_t_test(kind: str, n: int) -> None:
    rate = np.mean([t_test(checked(row)) <= 0.05 for row in noise(kind, (1000, n), 1).tolist()])
    assert 0.01 < rate <= above(0.05, 1000)


@pytest.mark.parametrize("n", [5, 10])
def test_false_positive_rate_of_a_signed_rank_test(n: int) -> None:
    found = [signed_rank(checked(row)) for row in np.round(noise("heavy", (1000, n)), 1).tolist()]
    assert np.mean(np.array(found) <= 0.07) <= above(0.07, 1000)


@pytest.mark.parametrize("planned", [3, 5, 10, 20])
@pytest.mark.parametrize("comparisons", [1, 6])
def test_false_positive_rate_over_all_looks(planned: int, comparisons: int) -> None:
    test, studies = SequentialTest(planned, comparisons=comparisons), 40_000
    rate = np.mean((looks(noise("normal", (studies, planned)), test)[2] > 1).any(-1))
    nominal = 0.05 / comparisons
    assert below(nominal, studies) <= rate <= above(nominal, studies)


@pytest.mark.parametrize(("kind", "planned", "most"), [("heavy", 5, 0.05), ("heavy", 10, 0.05), ("skewed", 5, 0.06)])
def test_false_positive_rate_for_other_noise(kind: str, planned: int, most: float) -> None:
    rate = np.mean((looks(noise(kind, (20_000, planned)), SequentialTest(planned))[2] > 1).any(-1))
    assert rate <= above(most, 20_000)


def test_family_wise_rate_after_holm() -> None:
    """Three arms against one baseline: the comparisons share its noise."""
    arms = noise("normal", (STUDIES, 4, 5))
    p = p_values(arms[:, 1:] - arms[:, :1])
    rate = np.mean([min(holm(row)) <= 0.05 for row in p.tolist()])
    assert 0.02 < rate <= above(0.05, STUDIES)
    with_one_true = p_values(arms[:, 1:] - arms[:, :1] + np.array([8.0, 0, 0])[:, None])
    rejected = np.array([holm(row) for row in with_one_true.tolist()]) <= 0.05
    assert rejected[:, 0].mean() > 0.9
    assert rejected[:, 1:].any(-1).mean() <= above(0.05, STUDIES)


@pytest.mark.parametrize("effects", [(0, 0, 0), (6, 0, 0), (6, 6, 0)])
def test_family_wise_rate_of_the_sequential_rule(effects: tuple[int, ...]) -> None:
    """Holm's steps at every look: what crosses at one level of the steps lowers the next."""
    arms = noise("normal", (STUDIES, 4, 5))
    values = arms[:, 1:] - arms[:, :1] + np.array(effects)[:, None]
    sizes = [looks(values, SequentialTest(5, comparisons=left))[2] for left in (1, 2, 3)]
    false = np.zeros(STUDIES, dtype=bool)
    for look in range(3):
        ordered = np.argsort(-sizes[0][:, :, look], axis=1)
        going = np.ones(STUDIES, dtype=bool)
        for rank in range(3):
            index = ordered[:, rank]
            going &= sizes[2 - rank][np.arange(STUDIES), index, look] > 1
            false |= going & (np.array(effects)[index] == 0)
    assert false.mean() <= above(0.05, STUDIES)
    if effects == (0, 0, 0):
        for study in [*np.flatnonzero(false)[:15].tolist(), 0, 1, 2]:
            found = [decide(SequentialTest(5), values[study, :, :n].tolist()) for n in (3, 4, 5)]
            assert any(one.verdict in ("better", "worse") for look in found for one in look) == false[study]


@pytest.mark.parametrize("planned", [5, 10])
@pytest.mark.parametrize("effect", [0, 0.5, 1, 2, 3])
@pytest.mark.parametrize("kind", KINDS)
def test_interval_covers_after_stopping(kind: str, effect: float, planned: int) -> None:
    values = noise(kind, (STUDIES, planned)) + effect
    test = SequentialTest(planned)
    mean, half, _ = looks(values, test)
    mean, half = at(stopped(values, test), mean, half)
    coverage = np.mean(np.abs(mean - effect) <= half)
    assert coverage >= below(0.95 if kind == "normal" else 0.93, STUDIES)
    if effect == 0 and kind == "normal":
        assert coverage <= above(0.97, STUDIES)


@pytest.mark.parametrize("planned", [5, 10])
@pytest.mark.parametrize("effect", [0, 0.25, 1, 2, 3])
def test_the_interval_that_is_shown_covers_after_stopping(effect: float, planned: int) -> None:
    values = noise("normal", (1000, planned), 2) + effect
    seeds = stopped(values, SequentialTest(planned)) + 3
    found = [paired(row[:n], early=n < planned) for row, n in zip(values.tolist(), seeds.tolist(), strict=True)]
    coverage = np.mean([one.low <= effect <= one.high for one in found])
    assert below(0.93, 1000) <= coverage <= above(0.97, 1000)


@pytest.mark.parametrize(("effect", "power"), [(1, 0.33), (2, 0.84), (3, 0.99)])
def test_power_and_the_price_of_hopelessness(effect: float, power: float) -> None:
    values = noise("normal", (STUDIES, 5)) + effect
    test = SequentialTest(5)
    size = looks(values, test)[2]
    (shown,) = at(stopped(values, test), size > 1)
    assert shown.mean() == pytest.approx(power, abs=0.025)
    assert (size > 1).any(-1).mean() - shown.mean() <= 0.01


def test_hopelessness_saves_seeds_where_there_is_nothing() -> None:
    values = noise("normal", (STUDIES, 5))
    assert stopped(values, SequentialTest(5)).mean() + 3 < 4


@pytest.mark.parametrize("trials", [2, 10, 100])
def test_overstatement_is_the_mean_excess_of_the_best(trials: int) -> None:
    best = 0.27 * noise("normal", (STUDIES, trials)).max(-1)
    assert best.mean() == pytest.approx(expected_overstatement(0.27, trials), abs=4 * best.std() / math.sqrt(STUDIES))


@pytest.mark.parametrize("trials", [10, 25, 100])
@pytest.mark.parametrize("spread", [0, 1, 2])
@pytest.mark.parametrize("tail", [False, True])
def test_shrinking_takes_the_luck_from_the_winner(trials: int, spread: float, tail: bool) -> None:
    """A tenth of the trials is bad by up to 30 sd in the second case."""
    studies = 1000
    draws = np.random.default_rng(trials)
    true = spread * draws.standard_normal((studies, trials))
    if tail:
        true = np.where(draws.random(true.shape) < 0.1, -30 * draws.random(true.shape), true)
    seen = true + draws.standard_normal(true.shape)
    winner = seen.argmax(-1)[:, None]
    after = np.array([shrunk(row, 1.0) for row in seen.tolist()])
    raw = np.take_along_axis(seen - true, winner, 1)
    left = np.take_along_axis(after - true, winner, 1)
    assert raw.mean() > 0.5
    assert abs(left.mean()) <= 0.4 * raw.mean()
    assert np.mean(left**2) < np.mean(raw**2)
    if spread == 0 and not tail:
        assert raw.mean() == pytest.approx(expected_overstatement(1.0, trials), abs=0.1)
