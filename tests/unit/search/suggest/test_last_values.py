"""A stopped trial counts as what its last epoch says of the end; a diverged one stays bad."""

from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from optuna.trial import FrozenTrial, TrialState, create_trial

from icd.search.suggest.last_values import paused_as_pruned, with_last_values

PRUNED, COMPLETE, RUNNING = TrialState.PRUNED, TrialState.COMPLETE, TrialState.RUNNING


def trial(state: TrialState, curve: Sequence[float], **attributes: Any) -> FrozenTrial:
    values: Mapping[int, float] = dict(enumerate(curve, 1))
    value = curve[-1] if state.is_finished() else None
    return create_trial(state=state, value=value, intermediate_values=dict(values), user_attrs=attributes)


def study(*trials: FrozenTrial) -> list[FrozenTrial]:
    for number, item in enumerate(trials):
        item.number = number
    return list(trials)


def shown(trials: list[FrozenTrial]) -> list[tuple[TrialState, float | None]]:
    return [(item.state, item.values[0] if item.values else None) for item in with_last_values(trials)]


PAUSED = {"paused": {"epoch": 1, "attempt": 1, "seconds": 1.0}, "attempts": 1}


def test_a_value_is_standardised_among_those_that_have_both_ends() -> None:
    # At epoch 1 the complete trials have mean 30 and spread 3 times that of the end, mean 70.
    found = shown(
        study(
            trial(COMPLETE, [27, 50, 69]),
            trial(COMPLETE, [30, 51, 70]),
            trial(COMPLETE, [33, 52, 71]),
            trial(PRUNED, [24]),
            trial(RUNNING, [31], **PAUSED),
            trial(PRUNED, [30, 48]),
            trial(RUNNING, [5]),
        )
    )
    assert found[:3] == [(COMPLETE, 69), (COMPLETE, 70), (COMPLETE, 71)]
    assert [state for state, _ in found[3:]] == [COMPLETE, COMPLETE, COMPLETE, RUNNING]
    assert [value for _, value in found[3:6]] == pytest.approx([70 - 6 / 3, 70 + 1 / 3, 70 - 3])


def test_a_small_early_difference_is_not_magnified() -> None:
    found = shown(
        study(trial(COMPLETE, [9, 60]), trial(COMPLETE, [10, 70]), trial(COMPLETE, [11, 80]), trial(PRUNED, [8]))
    )
    assert found[3] == (COMPLETE, 70 - 2)


def test_before_three_are_complete_all_are_compared_at_the_last_epoch_that_three_have() -> None:
    found = shown(
        study(
            trial(COMPLETE, [30, 50, 71]),
            trial(RUNNING, [20, 48], paused={"epoch": 2, "attempt": 2, "seconds": 2.0}, attempts=2),
            trial(RUNNING, [25, 49]),
            trial(PRUNED, [10]),
        )
    )
    assert found[0] == (COMPLETE, 50)
    assert found[1] == (COMPLETE, 48)
    assert found[2][0] == RUNNING
    assert found[3][0] == COMPLETE
    assert found[3][1] == pytest.approx(49 + (10 - 25) / 5)


def test_diverged_trials_and_those_without_company_stay_pruned() -> None:
    found = shown(
        study(
            *(trial(COMPLETE, [float(value), 70.0 + value]) for value in range(3)),
            trial(PRUNED, [50], end={"exit_reason": "diverged"}),
            trial(PRUNED, [50], end={"exit_reason": "pruned"}),
            create_trial(state=PRUNED, value=50.0, intermediate_values={7: 50.0}),  # nobody else reports epoch 7
            create_trial(state=PRUNED),
        )
    )
    assert [state for state, _ in found[3:]] == [PRUNED, COMPLETE, PRUNED, PRUNED]


def test_without_a_stopped_trial_nothing_changes() -> None:
    trials = study(trial(COMPLETE, [1, 2]), trial(RUNNING, [1]), trial(PRUNED, [1], end={"exit_reason": "diverged"}))
    assert with_last_values(trials) == trials


def test_a_trial_that_goes_on_is_running_again() -> None:
    going_on = {**PAUSED, "attempts": 2}
    trials = study(trial(RUNNING, [1], **PAUSED), trial(RUNNING, [1], **going_on))
    assert [(item.state, item.values) for item in paused_as_pruned(trials)] == [(PRUNED, [1]), (RUNNING, None)]
