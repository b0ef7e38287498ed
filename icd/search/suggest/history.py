"""Which trials a sampler learns from once there are thousands: what a draw costs must not grow with the study."""

import heapq
from collections.abc import Mapping, Sequence

from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

# A Gaussian process takes 2 s for 200 results and eight times as long for twice as many. CMA-ES and NSGA-II keep to
# their last generation by themselves, and random draws learn nothing.
MOST_FINISHED: Mapping[str, int] = {"auto": 1000, "tpe": 1000, "gp": 200}


def subsample_history(
    trials: list[FrozenTrial], directions: Sequence[StudyDirection], limit: int | None
) -> list[FrozenTrial]:
    """Give at most ``limit`` of the finished trials, and all that are under way, in their order.

    Half of those kept are the best complete ones, the same number for each objective; the others are the newest. TPE
    tells at most 25 good trials from the rest, and the rest is known from hundreds as well as from thousands.
    """
    finished = [trial for trial in trials if trial.state.is_finished()]
    if limit is None or len(finished) <= limit:
        return trials
    kept: set[int] = set()
    complete = [trial for trial in finished if trial.state == TrialState.COMPLETE]
    for index, direction in enumerate(directions):
        sign = -1.0 if direction == StudyDirection.MAXIMIZE else 1.0
        ordered = ((sign * trial.values[index], trial.number) for trial in complete)
        kept |= {number for _, number in heapq.nsmallest(limit // (2 * len(directions)), ordered)}
    for trial in reversed(finished):
        if len(kept) == limit:
            break
        kept.add(trial.number)
    return [trial for trial in trials if trial.number in kept or not trial.state.is_finished()]
