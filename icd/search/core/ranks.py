"""Ranks of arms over several teacher-student pairs, for configurations that are to do well everywhere.

Accuracies of different pairs have no common scale, ranks have (Demsar, JMLR 7, 2006, section 3.2.2).
"""

from bisect import bisect_left, bisect_right
from collections.abc import Hashable, Mapping, Sequence
from typing import TypeVar

from icd.config.sweep import Direction, RankName

Arm = TypeVar("Arm", bound=Hashable)


def ranks(values: Sequence[float]) -> list[float]:
    """Give the rank of each value, 1 for the smallest; equal values share the mean of their ranks."""
    ordered = sorted(values)
    return [(bisect_left(ordered, value) + bisect_right(ordered, value) + 1) / 2 for value in values]


def ranks_by_arm(
    values_by_pair: Mapping[str, Mapping[Arm, float]], *, maximize: bool = True
) -> dict[Arm, tuple[float, float]]:
    """Give each arm its mean and its worst rank over the pairs, 1 being best; ties share the mean of their ranks."""
    by_pair = []
    for values in values_by_pair.values():
        arms = list(values)
        by_pair.append(dict(zip(arms, ranks([-values[arm] if maximize else values[arm] for arm in arms]), strict=True)))
    arms = list(by_pair[0]) if by_pair else []
    found = {arm: [own[arm] for own in by_pair] for arm in arms}
    return {arm: (sum(own) / len(own), max(own)) for arm, own in found.items()}


def ranks_of_trials(values: Mapping[int, Mapping[str, float]], how: RankName, direction: Direction) -> dict[int, float]:
    """Give each trial its mean or worst rank over the pairs, among all that are given; 1 is best."""
    pairs = dict.fromkeys(pair for own in values.values() for pair in own)
    by_pair = {pair: {number: own[pair] for number, own in values.items()} for pair in pairs}
    both = ranks_by_arm(by_pair, maximize=direction == "maximize")
    return {number: mean if how == "mean" else worst for number, (mean, worst) in both.items()}
