"""The process covers conditional spaces and leaves what is pruned; the portfolio asks both in turn."""

from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.samplers import BaseSampler, GPSampler, RandomSampler
from optuna.trial import TrialState, create_trial

from icd.search.suggest.gp_sampler import AlternatingSampler, ConditionalGPSampler
from tests.driving import Hand

UNIT: dict[str, BaseDistribution] = {"x": FloatDistribution(0, 1)}


def study_of(sampler: BaseSampler, directions: int = 1) -> optuna.Study:
    return optuna.create_study(directions=["maximize"] * directions, sampler=sampler)


def rising_then_pruned(sampler: BaseSampler) -> optuna.Study:
    """Values rise towards 0.5; whatever lies beyond was pruned."""
    study = study_of(sampler)
    for step in range(10):
        x = 0.05 + 0.1 * step
        state = TrialState.COMPLETE if x < 0.5 else TrialState.PRUNED
        study.add_trial(create_trial(value=min(x, 0.5), state=state, params={"x": x}, distributions=UNIT))
    return study


def test_a_pruned_region_is_left() -> None:
    for seed in range(3):
        plain = rising_then_pruned(GPSampler(seed=seed, n_startup_trials=4))
        ours = rising_then_pruned(ConditionalGPSampler(seed=seed, n_startup_trials=4))
        assert plain.ask(UNIT).params["x"] > 0.7, "Optuna's own follows the rise into it"
        assert ours.ask(UNIT).params["x"] < 0.55


def test_a_conditional_parameter_is_modelled() -> None:
    loss = CategoricalDistribution(("kd", "dkd"))
    inner: dict[str, dict[str, BaseDistribution]] = {
        "kd": {"kd.temperature": FloatDistribution(1, 9)},
        "dkd": {"dkd.beta": FloatDistribution(0.5, 8, log=True), "dkd.k": IntDistribution(1, 9)},
    }
    sampler = ConditionalGPSampler(seed=0, n_startup_trials=4)
    study = study_of(sampler)
    for step in range(9):
        name = ("kd", "dkd")[step % 2]
        own: dict[str, Any] = {"kd.temperature": 1.0 + step} if name == "kd" else {"dkd.beta": 2.0, "dkd.k": 3}
        value = 10 - abs(own.get("kd.temperature", -20.0) - 5)  # best at 5
        distributions = {"loss": loss, **inner[name]}
        study.add_trial(create_trial(value=value, params={"loss": name, **own}, distributions=distributions))
    trial = study.ask()
    assert set(trial.relative_params) == {"loss", "kd.temperature", "dkd.beta", "dkd.k"}
    assert trial.suggest_categorical("loss", loss.choices) == "kd"
    assert 3 < trial.suggest_float("kd.temperature", 1, 9) < 7


class Named(RandomSampler):
    """Says when it is asked."""

    def __init__(self, name: str, asked: list[str]) -> None:
        super().__init__(seed=0)
        self.name, self.asked = name, asked

    def infer_relative_search_space(self, study: optuna.Study, trial: Any) -> dict[str, BaseDistribution]:
        self.asked.append(self.name)
        return {}


@pytest.mark.parametrize(
    ("directions", "results", "expected"),
    [(1, 0, ["gp", "tpe", "gp", "tpe"]), (2, 0, ["tpe"] * 4), (1, 200, ["gp", "tpe", "tpe", "tpe"])],
)
def test_who_is_asked(directions: int, results: int, expected: list[str]) -> None:
    asked: list[str] = []
    study = study_of(AlternatingSampler(Named("tpe", asked), Named("gp", asked)), directions)
    for _ in range(results):
        study.add_trial(create_trial(values=[0.5] * directions, params={"x": 0.5}, distributions=UNIT))
    for _ in range(4):
        study.tell(study.ask(UNIT), [0.5] * directions)
    assert asked == expected


def test_the_ledger_keeps_no_notes_of_samplers(tmp_path: Path) -> None:
    hand = Hand(tmp_path, sampler={"name": "auto", "startup_trials": 2}, budget={"trials": 6})
    hand.finish(lambda number, epoch: 50.0 + number * 37 % 11 + epoch)
    assert not any(trial.system_attrs for trial in hand.ledger.study.trials)
    assert any(trial.params for trial in hand.ledger.study.trials)
