"""Every sampler asks without a warning, gives steady draws, and learns from what it may see."""

from pathlib import Path
from typing import Any

import optuna
import pytest

from icd.config.sweep import SamplerConfig
from icd.errors import ConfigError
from icd.search.core.attempts import Attempt
from icd.search.planning import make_plan
from icd.search.run_sweep import run
from icd.search.settings import Settings
from icd.search.study.sweep_study import OUTSIDE
from icd.search.suggest.samplers import SteadySampler
from tests.driving import Hand, sweep_of

FLAT = {
    "scales": [1, 2],
    "base_loss": {"kd": {"temperature": {"low": 1, "high": 8}}},
    "cluster_weight": {"low": 0.5, "high": 64, "log": True},
}
MIXED = {**FLAT, "scales": {"choices": [[1, 2], [1, 2, 4]]}}
DEEP = {**MIXED, "base_loss": {"kd": {"temperature": {"low": 1, "high": 8}}, "dkd": {}}}
GRID = {
    **FLAT,
    "cluster_weight": {"choices": [1, 2, 4, 8]},
    "base_loss": {"kd": {"temperature": {"choices": [2, 4, 8]}}},
}
SPACES: dict[str, Any] = {
    **dict.fromkeys(("auto", "tpe", "random", "nsga2", "gp"), DEEP),
    "cmaes": FLAT,
    "grid": GRID,
}


def value(number: int, epoch: int) -> float:
    return 50.0 + (number * 37 % 11) + epoch


def params(hand: Hand) -> list[dict[str, Any]]:
    return [dict(record.params) for record in hand.ledger.records()]


def given(hand: Hand) -> Attempt:
    """Ask for an attempt until there is one, since draws may come to nothing."""
    while (attempt := hand.driver.next_attempt()) is None:
        assert not hand.driver.done
    return attempt


@pytest.mark.parametrize(("name", "ranges"), [*SPACES.items(), ("auto", GRID), ("tpe", GRID)])
def test_every_sampler_asks_twelve_and_a_new_driver_asks_the_same(tmp_path: Path, name: str, ranges: Any) -> None:
    """Also where there are twelve points, and a model says again what was tried."""
    changes: dict[str, Any] = {
        "ranges": ranges,
        "sampler": {"name": name, "startup_trials": 4},
        "enqueue": ["KD"],
        "budget": {"trials": 13},
    }
    (tmp_path / "whole").mkdir()
    (tmp_path / "cut").mkdir()
    whole, cut = Hand(tmp_path / "whole", **changes), Hand(tmp_path / "cut", **changes)
    trained = whole.finish(value)
    assert len(trained) == 13
    for _ in range(3):  # one trial, a kill, one trial, a kill ...
        for _ in range(3):
            cut.train(given(cut), value)
        given(cut)
        cut = cut.again(**changes)
    cut.finish(value)
    assert params(cut) == params(whole)
    assert "failed" not in whole.states


@pytest.mark.parametrize(
    ("name", "cost", "trials"),
    [
        ("tpe", "cost/seconds", 9),
        ("tpe", "cost/parameters", 9),
        ("nsga2", "cost/parameters", 9),
        ("gp", "cost/seconds", 7),  # a fit of two objectives takes a second
    ],
)
def test_two_objectives(tmp_path: Path, name: str, cost: str, trials: int) -> None:
    hand = Hand(
        tmp_path,
        ranges=MIXED,
        sampler={"name": name, "startup_trials": 3},
        objective=["val/top1", cost],
        budget={"trials": trials},
    )
    diverging = {1, 4, 6}
    while (attempt := hand.driver.next_attempt()) is not None:
        if attempt.number in diverging:
            hand.epoch(attempt, 1, 99.0)
            hand.end(attempt, "diverged", "loss is NaN")
            continue
        hand.train(attempt, value, minutes=1.0 + attempt.number, parameters=1000 - attempt.number)
    records = hand.stored()
    assert {record.number for record in records if record.state == "pruned"} == diverging
    for record in records:
        if record.state == "complete":
            wanted = 60.0 * (1 + record.number) if cost == "cost/seconds" else 1000.0 - record.number
            assert record.values == (value(record.number, 4), wanted)
    front = {trial.number for trial in hand.ledger.study.best_trials}
    assert front
    assert not front & diverging
    end = next(view for view in hand.ends if view.key == "0000")
    assert end.totals is not None
    assert end.totals.metrics.keys() == {"final/val/top1", f"final/{cost}"}


def test_a_diverged_trial_is_never_cheap(tmp_path: Path) -> None:
    """Its curve must be bad in the direction of the objective, or TPE would run after what diverges."""
    hand = Hand(tmp_path, objective="cost/seconds", budget={"trials": 2})
    first, second = hand.driver.next_attempt(), hand.driver.next_attempt()
    assert first is not None
    assert second is not None
    hand.end(first, "diverged", "loss is NaN")
    hand.epoch(second, 1, **{"val/loss": 1.5})
    records = hand.ledger.records()
    assert records[0].curve == {0: pytest.approx(2.302585)}
    assert records[1].curve == {1: 1.5}


def test_cmaes_is_refused_on_a_shared_database(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before anything is made or trained; nobody listens at this address."""
    monkeypatch.setenv("ICD_STORAGE_URL", "postgresql://nobody@127.0.0.1:9/none")
    sweep, document = sweep_of(ranges=FLAT, sampler={"name": "cmaes"})
    settings = Settings(root=tmp_path / "root")
    for act in (lambda: run(sweep, document, settings), lambda: make_plan(sweep, settings, measure=False)):
        with pytest.raises(ConfigError, match="refused on a shared database; use tpe"):
            act()
    assert not settings.root.exists()


def test_samplers_do_not_see_what_lies_outside_the_space() -> None:
    study = optuna.create_study()
    inside: dict[str, optuna.distributions.BaseDistribution] = {"x": optuna.distributions.FloatDistribution(0, 1)}
    study.add_trial(optuna.trial.create_trial(value=1.0, user_attrs={OUTSIDE: True, "baseline": "KD"}))
    study.add_trial(optuna.trial.create_trial(value=2.0, params={"x": 0.5}, distributions=inside))
    view = SteadySampler(SamplerConfig(name="random"))._shown(study)
    assert [trial.number for trial in view.get_trials()] == [1]
    assert [trial.number for trial in view._get_trials(deepcopy=False, use_cache=True)] == [1]
    assert len(study.trials) == 2


@pytest.mark.parametrize("name", ["gp", "tpe"])
def test_a_baseline_outside_the_space_keeps_the_joint_model(tmp_path: Path, name: str) -> None:
    hand = Hand(
        tmp_path, ranges=MIXED, sampler={"name": name, "startup_trials": 2}, enqueue=["KD"], budget={"trials": 6}
    )
    hand.finish(value)
    study = hand.ledger.study
    space = study.sampler.infer_relative_search_space(study, study.trials[-1])
    assert space.keys() == hand.ledger.record(5).params.keys()
