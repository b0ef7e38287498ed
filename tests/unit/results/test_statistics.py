"""Statistics of paired runs, against scipy, cases worked by hand, and data that have no spread."""

import math
from itertools import permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import quad
from scipy.stats import PermutationMethod, norm, t, ttest_1samp, wilcoxon

from icd.results.boundary import critical_t, crossing_rate, levels_for, look_weights
from icd.results.sequential import SequentialTest, decide
from icd.results.statistics import holm, paired, within_one_se
from icd.results.winners_curse import expected_overstatement, shrunk
from icd.search.ranks import mean_rank, ranks, worst_rank

points = st.floats(-5, 5).map(lambda value: round(value, 2))
regular = st.lists(points, min_size=3, max_size=10).filter(lambda values: np.ptp(values) > 0)


@settings(max_examples=40, deadline=None)
@given(regular)
def test_t_test_is_scipys(differences: list[float]) -> None:
    assert paired(differences).p_t == pytest.approx(ttest_1samp(differences, 0).pvalue, rel=1e-6, abs=1e-12)


@settings(max_examples=40, deadline=None)
@given(st.lists(points.filter(bool), min_size=2, max_size=10, unique_by=abs))
def test_signed_rank_is_scipys(differences: list[float]) -> None:
    assert paired(differences).p_wilcoxon == pytest.approx(wilcoxon(differences, method="exact").pvalue)


@pytest.mark.parametrize("differences", [[1, 1, -1, 2, 3], [0, 1, 2, 2, -3], [0, 0, 1, -2, 2, 2], [0.3, 0.3, -0.3, 1]])
def test_signed_rank_with_ties_and_zeros_counts_all_signs(differences: list[float]) -> None:
    exact = wilcoxon(differences, zero_method="pratt", method=PermutationMethod(n_resamples=10**6)).pvalue
    assert paired(differences).p_wilcoxon == pytest.approx(exact)


def test_floats_do_not_tear_ties_apart() -> None:
    assert 70.3 - 70.0 != 70.4 - 70.1
    assert paired([70.3 - 70.0, 70.4 - 70.1]).sd == 0
    assert paired([70.3 - 70.0, 70.1 - 70.4, 1.0]) == paired([0.3, -0.3, 1.0])


def test_one_difference_says_nothing() -> None:
    found = paired([2.0])
    assert (found.n, found.mean, found.sd, found.low, found.high) == (1, 2.0, None, None, None)
    assert found.p_t == found.p_wilcoxon == 1


def test_no_difference_at_all() -> None:
    found = paired([0.0] * 5)
    assert (found.mean, found.sd, found.p_t, found.p_wilcoxon) == (0, 0, 1, 1)
    assert (found.low, found.high) == (None, None)


def test_equal_differences_are_judged_by_their_signs() -> None:
    found = paired([0.3] * 5)
    assert (found.mean, found.sd) == (0.3, 0)
    assert found.p_t == found.p_wilcoxon == 2 / 2**5
    assert found.low is None


def test_interval_is_the_same_in_any_order() -> None:
    found = {(one.low, one.high) for one in map(paired, permutations([0.1, 0.5, -0.2, 0.9]))}
    assert len(found) == 1


@settings(max_examples=30, deadline=None)
@given(regular)
def test_interval_holds_the_mean_and_grows_with_the_level(differences: list[float]) -> None:
    narrow, wide = paired(differences, 0.8), paired(differences, 0.95)
    assert None not in (narrow.low, narrow.high, wide.low, wide.high)
    assert wide.low <= narrow.low <= wide.mean <= narrow.high <= wide.high
    mirrored = paired([-difference for difference in differences])
    assert mirrored.low == pytest.approx(-wide.high)


@pytest.mark.parametrize("differences", [[], [1.0, math.nan], [math.inf]])
def test_differences_must_be_finite(differences: list[float]) -> None:
    with pytest.raises(ValueError, match="finite numbers must be given"):
        paired(differences)


def test_level_must_be_a_share() -> None:
    with pytest.raises(ValueError, match="0 < level < 1 must hold, but got 95"):
        paired([1, 2], 95)


def test_holm_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx((0.03, 0.06, 0.06, 0.02))
    assert holm([0.9, 0.6]) == (1.0, 1.0)
    assert holm([]) == ()


@pytest.mark.parametrize("p", [-0.1, 1.1, math.nan])
def test_holm_wants_p_values(p: float) -> None:
    with pytest.raises(ValueError, match="0 <= p <= 1 must hold"):
        holm([0.5, p])


def test_one_standard_error() -> None:
    order = ["plain", "middle", "best", "complex"]
    worse, near = [-1.0, -1.2, -0.8], [-0.5, 0.2, 0.1]  # standard errors 0.12 and 0.22
    assert within_one_se({"plain": worse, "middle": near}, order, "best") == "middle"
    assert within_one_se({"plain": near, "middle": near}, order, "best") == "plain"
    assert within_one_se({"plain": worse, "middle": worse, "complex": near}, order, "best") == "best"
    assert within_one_se({"plain": [-0.1], "middle": [0.0]}, order, "best") == "middle"


def test_one_standard_error_wants_the_arms() -> None:
    with pytest.raises(ValueError, match="must hold the best arm"):
        within_one_se({}, ["a"], "b")
    with pytest.raises(ValueError, match="differences must hold 'a'"):
        within_one_se({}, ["a", "b"], "b")


def test_ranks_share_ties() -> None:
    assert ranks([3, 1, 1, 0]) == [4, 2.5, 2.5, 1]


def test_ranks_over_pairs() -> None:
    values = {"one": {"a": 70, "b": 71, "c": 70}, "two": {"a": 60, "b": 50, "c": 55}}
    assert mean_rank(values) == {"a": 1.75, "b": 2.0, "c": 2.25}
    assert worst_rank(values) == {"a": 2.5, "b": 3, "c": 2.5}
    assert mean_rank(values, maximize=False) == {"a": 2.25, "b": 2.0, "c": 1.75}


def test_ranks_want_the_same_arms() -> None:
    with pytest.raises(ValueError, match=r"two: arms must be \['a'\]"):
        mean_rank({"one": {"a": 1}, "two": {"a": 1, "b": 2}})
    with pytest.raises(ValueError, match="at least one pair"):
        worst_rank({})


def test_a_single_look_is_one_t_test() -> None:
    assert levels_for(5, 5, 0.05) == pytest.approx((0.05,))
    assert crossing_rate((0.01,), 3) == pytest.approx(0.01)


def test_two_looks_by_direct_integration() -> None:
    """Looks at 2 and 3 values: directions are even on a sphere, in polar coordinates about the last axis."""
    first, last = critical_t(0.02, 2), critical_t(0.05, 3)
    edge = math.atan(first)  # of the angle between the first two values and (1, 1)

    heights = (np.arange(4000) + 0.5) / 2000 - 1
    angles = edge * ((np.arange(400) + 0.5) / 200 - 1)
    cosines = (math.sqrt(2) * np.sin(angles)[:, None] * np.sqrt(1 - heights**2) + heights) / math.sqrt(3)
    later = np.mean(np.abs(cosines) > last / math.sqrt(last**2 + 2)) * 2 * edge / math.pi
    assert crossing_rate((0.02, 0.05), 2) == pytest.approx(0.02 + later, rel=0.01)


@pytest.mark.parametrize(("planned", "alpha"), [(5, 0.05), (5, 0.05 / 12), (10, 0.05), (20, 0.01)])
def test_levels_rise_and_spend_alpha(planned: int, alpha: float) -> None:
    levels = levels_for(planned, 3, alpha)
    assert np.array(levels) / levels[-1] == pytest.approx(np.array(look_weights(planned, 3)))
    assert crossing_rate(levels, 3) == pytest.approx(alpha, rel=1e-5)
    assert levels[-1] < alpha < sum(levels)


@pytest.mark.parametrize(("chance", "verdict"), [(0.045, "hopeless"), (0.055, "open")])
def test_hopeless_is_a_chance_below_five_percent(chance: float, verdict: str) -> None:
    test, low, high = SequentialTest(5), 0.0, 3.0
    for _ in range(40):  # the mean, in sd of a difference, that leaves this chance
        middle = (low + high) / 2
        low, high = (middle, high) if test.chance([middle - 1, middle, middle + 1]) < chance else (low, middle)
    assert test.chance([high - 1, high, high + 1]) == pytest.approx(chance, abs=1e-3)
    assert test.verdict([high - 1, high, high + 1]) == verdict


def test_verdicts() -> None:
    test = SequentialTest(5)
    assert test.verdict([5.0, 5.1]) == "open"
    assert test.verdict([5.0, 5.1, 4.9]) == "better"
    assert test.verdict([-5.0, -5.1, -4.9]) == "worse"
    assert test.verdict([1.0, 0.4, 0.9]) == "open"
    assert test.verdict([1.0, -1.2, 0.1]) == "hopeless"
    assert test.verdict([1.0, -1.2, 0.1, 0.3, -0.4]) == "no difference shown"
    assert test.verdict([1.0, 0.4, 0.9], no_more=True) == "no difference shown"


def test_verdicts_without_spread() -> None:
    test = SequentialTest(5)
    assert test.verdict([0.0] * 3) == "hopeless"
    assert test.verdict([0.3] * 3) == "open"
    assert test.verdict([0.3] * 5) == "no difference shown"
    assert test.interval([0.3] * 5) is None
    assert test.p_value([0.3] * 5) > 2 / 2**5


def test_few_planned_seeds() -> None:
    assert SequentialTest(1).verdict([3.0]) == "no difference shown"
    assert SequentialTest(1).interval([3.0]) is None
    assert SequentialTest(2).level(2) == pytest.approx(0.05)
    assert SequentialTest(5).interval([3.0, 3.1]) is None
    assert SequentialTest(5).p_value([3.0, 3.1]) == 1


def test_more_seeds_than_planned_are_another_test() -> None:
    with pytest.raises(ValueError, match="at most 3 were planned, but got 4"):
        SequentialTest(3).verdict([1, 2, 3, 4])


@pytest.mark.parametrize("wrong", [{"planned": 0}, {"first": 1}, {"alpha": 0.0}, {"comparisons": 0}])
def test_a_plan_has_ranges(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=f"{next(iter(wrong))} >=|0 < alpha < 1"):
        SequentialTest(**({"planned": 5} | wrong))


@settings(max_examples=60, deadline=None)
@given(st.lists(points, min_size=3, max_size=5).filter(lambda values: np.ptp(values) > 0), st.integers(1, 6))
def test_verdict_interval_and_p_value_agree(differences: list[float], comparisons: int) -> None:
    test = SequentialTest(5, comparisons=comparisons)
    low, high = test.interval(differences)
    shown = test.verdict(differences) in ("better", "worse")
    assert shown == (low > 0 or high < 0)
    p = test.p_value(differences)
    if abs(p * comparisons - 0.05) > 1e-5:
        assert shown == (p <= 0.05 / comparisons)
    assert p >= paired(differences).p_t * (1 - 1e-9)


@pytest.mark.parametrize("differences", [[1.0, -1.2, 0.1, 0.3], [1.0, 0.2, 0.9, 0.7], [-2.0, 0.4, -1.5, -1.1]])
def test_chance_of_one_more_seed_by_integration(differences: list[float]) -> None:
    """The next value is `mean + sd sqrt(1 + 1 / n) t` with `n - 1` degrees of freedom."""
    test, values = SequentialTest(5), np.array(differences)
    scale = values.std(ddof=1) * math.sqrt(1 + 1 / 4)
    critical = critical_t(test.level(5), 5)

    at = np.linspace(-60, 60, 40_001)
    futures = np.column_stack([np.tile(values, (at.size, 1)), values.mean() + scale * at])
    shown = np.abs(futures.mean(1)) / futures.std(1, ddof=1) * math.sqrt(5) > critical
    exact = np.sum(t.pdf(at, 3)[shown]) * (at[1] - at[0])
    assert test.chance(differences) == pytest.approx(exact, abs=4 * math.sqrt(0.25 / 4000))


def test_chance_of_nothing_more() -> None:
    assert SequentialTest(3).chance([1.0, 2.0, 3.0]) == 0
    assert SequentialTest(5).chance([1.0]) == 1


def test_decide_takes_holms_steps() -> None:
    sure, likely, none = [5.0, 5.1, 4.9, 5.05, 4.95], [1.0, 0.4, 0.9, 0.7, 0.5], [1.0, -1.2, 0.1, 0.3, -0.4]
    test = SequentialTest(5)
    found = decide(test, [none, likely, sure])
    assert [one.verdict for one in found] == ["no difference shown", "better", "better"]
    assert [one.p_holm for one in found] == list(holm([one.p for one in found]))
    assert (found[1].low, found[1].high) == SequentialTest(5, comparisons=2).interval(likely)
    assert (found[0].low, found[0].high) == SequentialTest(5, comparisons=1).interval(none)
    assert decide(test, []) == ()


@settings(max_examples=25, deadline=None)
@given(st.lists(st.lists(points, min_size=5, max_size=5).filter(lambda v: np.ptp(v) > 0), min_size=1, max_size=4))
def test_decisions_agree_with_their_p_values(comparisons: list[list[float]]) -> None:
    for one in decide(SequentialTest(5), comparisons):
        if abs(one.p_holm - 0.05) > 1e-5:
            assert (one.verdict in ("better", "worse")) == (one.p_holm <= 0.05) == (one.low > 0 or one.high < 0)


@pytest.mark.parametrize("trials", [1, 2, 3, 10, 1000])
def test_expected_maximum_by_its_density(trials: int) -> None:
    exact, _ = quad(lambda x: x * trials * norm.pdf(x) * norm.cdf(x) ** (trials - 1), -10, 10, points=[0, 3])
    assert expected_overstatement(0.25, trials) == pytest.approx(0.25 * exact, abs=1e-8)


def test_overstatement_without_noise_or_trials() -> None:
    assert expected_overstatement(0, 100) == 0
    with pytest.raises(ValueError, match="trials >= 1 must hold"):
        expected_overstatement(0.25, 0)
    with pytest.raises(ValueError, match="finite sd_noise >= 0"):
        expected_overstatement(math.nan, 3)


def test_shrinking_by_hand() -> None:
    # Median 72; better half 74 and 76: v = 2 (4 + 16) / 4 = 10, kept 1 - 2.5 / 10.
    assert shrunk([10, 71, 72, 74, 76], math.sqrt(2.5)) == pytest.approx((25.5, 71.25, 72, 73.5, 75))
    assert shrunk([-10, -71, -72, -74, -76], math.sqrt(2.5), maximize=False)[4] == pytest.approx(-75)


def test_shrinking_where_little_is_known() -> None:
    assert shrunk([71.0], 0.3) == (71.0,)
    assert shrunk([71.0, 71.1, 71.2], 0.3) == (71.1, 71.1, 71.1)
    assert shrunk([71.0, 71.1, 71.2], 0.0) == pytest.approx((71.0, 71.1, 71.2))
    assert shrunk([71.0, 71.0], 0.0) == (71.0, 71.0)
    with pytest.raises(ValueError, match="finite numbers must be given"):
        shrunk([], 0.3)
