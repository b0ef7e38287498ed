"""Ranks of arms over several teacher-student pairs, for configurations that are to do well everywhere.

Accuracies of different pairs have no common scale, ranks have (Demsar, JMLR 7, 2006, section 3.2.2).
"""

from collections.abc import Mapping, Sequence


def ranks(values: Sequence[float]) -> list[float]:
    """Give the rank of each value, 1 for the smallest; equal values share the mean of their ranks."""
    ordered = sorted(values)
    return [ordered.index(value) + (ordered.count(value) + 1) / 2 for value in values]


def mean_rank(values_by_pair: Mapping[str, Mapping[str, float]], *, maximize: bool = True) -> dict[str, float]:
    """Give each arm its mean rank over the pairs, 1 being best; ties share the mean of their ranks.

    Args:
        values_by_pair: For each pair, the value of each arm; every pair has the same arms.
        maximize: Whether a large value is good.

    Raises:
        ValueError: Without a pair, or where the pairs have different arms.
    """
    found = _ranks_by_arm(values_by_pair, maximize=maximize)
    return {arm: sum(places) / len(places) for arm, places in found.items()}


def worst_rank(values_by_pair: Mapping[str, Mapping[str, float]], *, maximize: bool = True) -> dict[str, float]:
    """Give each arm its worst rank over the pairs; arguments and errors are those of ``mean_rank``."""
    return {arm: max(places) for arm, places in _ranks_by_arm(values_by_pair, maximize=maximize).items()}


def _ranks_by_arm(values_by_pair: Mapping[str, Mapping[str, float]], *, maximize: bool) -> dict[str, list[float]]:
    if not values_by_pair:
        raise ValueError("ranks: values_by_pair: at least one pair must be given, but got none")
    arms = list(next(iter(values_by_pair.values())))
    found: dict[str, list[float]] = {arm: [] for arm in arms}
    for pair, values in values_by_pair.items():
        if set(values) != set(arms):
            raise ValueError(f"ranks: {pair}: arms must be {sorted(arms)}, but got {sorted(values)}")
        for arm, rank in zip(arms, ranks([-values[arm] if maximize else values[arm] for arm in arms]), strict=True):
            found[arm].append(rank)
    return found
