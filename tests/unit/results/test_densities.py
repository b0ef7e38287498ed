"""The importance of a parameter, held against Optuna's own evaluator."""

import math
import random

import numpy as np
import optuna
import pytest
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.importance import PedAnovaImportanceEvaluator

from icd.results.densities import importances

SPACE: dict[str, BaseDistribution] = {
    "float": FloatDistribution(0, 1),
    "log": FloatDistribution(0.5, 64, log=True),
    "step": FloatDistribution(0, 1, step=0.1),
    "int": IntDistribution(1, 9),
    "log int": IntDistribution(1, 300, log=True),
    "choice": CategoricalDistribution(["a", "b", "c"]),
    "fixed": FloatDistribution(1, 1),
}


@pytest.mark.parametrize(("trials", "digits"), [(8, 3), (13, 1), (60, 3), (60, 0), (250, 3)])
def test_it_is_what_optuna_finds(trials: int, digits: int) -> None:
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    draw = random.Random(trials)
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=trials))
    for _ in range(trials):
        trial = study.ask(SPACE)
        params = trial.params
        study.tell(trial, round(params["float"] ** 2 + (params["choice"] == "a") + 0.2 * draw.random(), digits))
    told = study.get_trials()
    share = min(0.5, max(0.1, 5 / trials))
    losses = [trial.values[0] for trial in told]
    chosen = np.array([losses]) <= sorted(losses)[math.ceil(share * trials) - 1]
    expected = PedAnovaImportanceEvaluator(target_quantile=share).evaluate(study)
    found = {
        name: importances(distribution, [trial.params[name] for trial in told], chosen)[0]
        for name, distribution in SPACE.items()
    }
    assert found == pytest.approx(expected, rel=1e-9, abs=1e-12)
    assert found["fixed"] == 0.0
    assert found["float"] > 0.0


def test_each_set_is_judged_by_itself_and_all_trials_have_none() -> None:
    values = [0.01 * place for place in range(100)]
    high, low = [value > 0.8 for value in values], [value < 0.2 for value in values]
    some, other, everything = importances(FloatDistribution(0, 1), values, np.array([high, low, [True] * 100]))
    assert some == pytest.approx(other, rel=0.1)
    assert some > 0.1
    assert everything == pytest.approx(0.0, abs=1e-12)
