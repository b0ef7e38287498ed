"""Ranks of arms over several teacher-student pairs, for configurations that are to do well everywhere.

Accuracies of different pairs have no common scale, ranks have (Demsar, JMLR 7, 2006, section 3.2.2).
"""

from bisect import bisect_left, bisect_right
from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import TypeVar

from icd.config.sweep import Direction, RankName

Arm = TypeVar("Arm", bound=Hashable)


def ranks(values: Sequence[float]) -> list[float]:
    """Give the rank of each value, 1 for the smallest; equal values share the mean of their ranks."""
    ordered = sorted(values)
    return [(bisect_left(ordered, value) + bisect_right(ordered, value) + 1) / 2 for value in values]


def mean_rank(values_by_pair: Mapping[str, Mapping[Arm, float]], *, maximize: bool = True) -> dict[Arm, float]:
    """Give each arm its mean rank over the pairs, 1 being best; ties share the mean of their ranks.

    Args:
        values_by_pair: For each pair, the value of each arm; every pair has the same arms.
        maximize: Whether a large value is good.

    Raises:
        ValueError: Without a pair, or where the pairs have different arms.
    """
    found = _ranks_by_arm(values_by_pair, maximize=maximize)
    return {arm: sum(places) / len(places) for arm, places in found.items()}


def worst_rank(values_by_pair: Mapping[str, Mapping[Arm, float]], *, maximize: bool = True) -> dict[Arm, float]:
    """Give each arm its worst rank over the pairs; arguments and errors are those of ``mean_rank``."""
    return {arm: max(places) for arm, places in _ranks_by_arm(values_by_pair, maximize=maximize).items()}


def ranks_of_trials(values: Mapping[int, Mapping[str, float]], how: RankName, direction: Direction) -> dict[int, float]:
    """Give each trial its mean or worst rank over the pairs, among all that are given; 1 is best.

    Args:
        values: For each trial's number, the value of each pair.
        how: ``mean`` or ``worst``.
        direction: Which values are good.
    """
    pairs = dict.fromkeys(pair for own in values.values() for pair in own)
    by_pair = {pair: {number: own[pair] for number, own in values.items()} for pair in pairs}
    rank = mean_rank if how == "mean" else worst_rank
    return rank(by_pair, maximize=direction == "maximize") if by_pair else {}


def _ranks_by_arm(values_by_pair: Mapping[str, Mapping[Arm, float]], *, maximize: bool) -> dict[Arm, list[float]]:
    if not values_by_pair:
        raise ValueError("ranks: values_by_pair: at least one pair must be given, but got none")
    arms = list(next(iter(values_by_pair.values())))
    found: dict[Arm, list[float]] = {arm: [] for arm in arms}
    for pair, values in values_by_pair.items():
        if set(values) != set(arms):
            raise ValueError(f"ranks: {pair}: arms must be {_listed(arms)}, but got {_listed(values)}")
        for arm, rank in zip(arms, ranks([-values[arm] if maximize else values[arm] for arm in arms]), strict=True):
            found[arm].append(rank)
    return found


def _listed(arms: Iterable[Hashable]) -> list[str]:
    return sorted(str(arm) for arm in arms)
