"""What we use of Optuna unpromised is still there, and does what we need it for."""

from typing import Any

import optuna
import pytest
from optuna.distributions import BaseDistribution, FloatDistribution
from optuna.samplers import BaseSampler
from optuna.trial import FrozenTrial, TrialState

from icd.config.sweep import SamplerConfig
from icd.search.study.optuna_internals import USES, showing
from icd.search.suggest.samplers import SAMPLERS

SPACE: dict[str, BaseDistribution] = {"x": FloatDistribution(0, 1), "y": FloatDistribution(0, 1)}


@pytest.mark.parametrize("name", USES)
def test_optuna_still_has(name: str) -> None:
    if not hasattr(optuna.create_study(), name):
        pytest.fail(f"a study of Optuna {optuna.__version__} has no {name}, of which we need: {USES[name]}")


@pytest.mark.parametrize("name", [name for name in SAMPLERS if name != "random"])
def test_a_sampler_learns_from_what_is_shown_and_from_nothing_else(name: str) -> None:
    """Were the study's own trials read past the view, their values would change the draw."""

    def draw(own: float, shown: float) -> Any:
        study = optuna.create_study(direction="maximize")
        for place in range(12):
            params = {"x": place / 12, "y": place / 12}
            study.add_trial(optuna.trial.create_trial(params=params, distributions=SPACE, value=own * place))
        trials = [_valued(trial, shown * trial.number) for trial in study.get_trials()]

        sampler: BaseSampler = SAMPLERS[name](SamplerConfig(name=name, startup_trials=2), 0)  # type: ignore[arg-type]
        frozen = study.trials[-1]
        view = showing(study, lambda: trials, takes_notes=False)
        space = sampler.infer_relative_search_space(view, frozen)
        return sampler.sample_relative(view, frozen, space)

    assert draw(own=1.0, shown=1.0) == draw(own=-1.0, shown=1.0)


def _valued(trial: FrozenTrial, value: float) -> FrozenTrial:
    return optuna.trial.create_trial(
        params=trial.params, distributions=trial.distributions, value=value, state=TrialState.COMPLETE
    )
