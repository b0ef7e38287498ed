"""What a sampler learns from when there are more trials than it can take."""

from typing import Any

import optuna
import pytest
from optuna.distributions import BaseDistribution, FloatDistribution
from optuna.samplers import BaseSampler, RandomSampler
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from icd.config.sweep import SamplerConfig
from icd.search.suggest.samplers import SAMPLERS, SteadySampler, subsample_history

UP, DOWN = StudyDirection.MAXIMIZE, StudyDirection.MINIMIZE


def trials(*values: float | tuple[float, ...] | TrialState) -> list[FrozenTrial]:
    made = []
    for number, value in enumerate(values):
        if isinstance(value, TrialState):
            trial = optuna.trial.create_trial(state=value)
        else:
            own = value if isinstance(value, tuple) else (value,)
            trial = optuna.trial.create_trial(values=[float(item) for item in own])
        trial.number = number
        made.append(trial)
    return made


def numbers(shown: list[FrozenTrial]) -> list[int]:
    return [trial.number for trial in shown]


@pytest.mark.parametrize(("direction", "best"), [(UP, [1, 3]), (DOWN, [0, 2])])
def test_half_are_the_best_and_half_the_newest(direction: StudyDirection, best: list[int]) -> None:
    known = trials(1, 9, 2, 8, 5, 5, 5, 5)
    assert numbers(subsample_history(known, [direction], 4)) == [*best, 6, 7]


def test_nothing_is_left_out_before_the_limit_or_without_one() -> None:
    known = trials(1, 2, 3, 4)
    assert subsample_history(known, [UP], 4) == known
    assert subsample_history(known, [UP], None) == known


def test_those_under_way_are_always_shown_and_count_for_nothing() -> None:
    known = trials(9, TrialState.RUNNING, 1, 2, 3, TrialState.RUNNING)
    assert numbers(subsample_history(known, [UP], 2)) == [0, 1, 4, 5]


def test_a_failed_or_pruned_one_is_never_among_the_best() -> None:
    known = trials(TrialState.FAIL, 1, 3, 2, TrialState.FAIL, 0)
    assert numbers(subsample_history(known, [UP], 2)) == [2, 5]


def test_the_best_that_are_new_leave_room_for_more_of_the_newest() -> None:
    assert numbers(subsample_history(trials(1, 2, 3, 4, 5, 6), [UP], 4)) == [2, 3, 4, 5]


def test_every_objective_has_its_best() -> None:
    known = trials((9, 9), (1, 1), (5, 5), (5, 5), (5, 5), (5, 5))
    assert numbers(subsample_history(known, [UP, DOWN], 4)) == [0, 1, 4, 5]


def test_of_equal_ones_the_older_is_kept() -> None:
    assert numbers(subsample_history(trials(7, 7, 7, 1, 1, 1), [UP], 4)) == [0, 1, 4, 5]


@pytest.mark.parametrize(("name", "shown"), [("auto", 1000), ("tpe", 1000), ("gp", 200), ("nsga2", 1100)])
def test_how_many_trials_each_sampler_learns_from(monkeypatch: pytest.MonkeyPatch, name: Any, shown: int) -> None:
    seen = []

    class Counting(RandomSampler):
        def infer_relative_search_space(self, study: optuna.Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
            seen.append(sum(other.state.is_finished() for other in study.get_trials(deepcopy=False)))
            return {}

    def made(config: SamplerConfig, seed: int) -> BaseSampler:
        return Counting(seed=seed)

    monkeypatch.setitem(SAMPLERS, name, made)
    study = optuna.create_study(sampler=SteadySampler(SamplerConfig(name=name)))
    study.add_trials(trials(*range(1100)))
    study.ask({"x": FloatDistribution(0, 1)})
    assert seen == [shown]
