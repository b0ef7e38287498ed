"""Importance by branch: what it finds, what it leaves alone, and when it says nothing."""

import random
from typing import Any

import pytest
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution
from optuna.trial import FrozenTrial, create_trial
from scipy import stats as scipy_stats

from icd.results.importance import FEWEST, importance_of, parameter_importance
from tests.reports import rich


def trials(count: int, seed: int = 0) -> list[FrozenTrial]:
    """``x`` and, within dkd, ``dkd.beta`` decide; ``noise`` and ``kd.temperature`` do not."""
    draw = random.Random(seed)
    made = []
    for number in range(count):
        params: dict[str, Any] = {"base": draw.choice(["kd", "dkd"]), "x": draw.random(), "noise": draw.random()}
        own = "dkd.beta" if params["base"] == "dkd" else "kd.temperature"
        params[own] = draw.random()
        value = 10 * params["x"] + 20 * params.get("dkd.beta", 0.0)
        distributions: dict[str, BaseDistribution] = {"base": CategoricalDistribution(["kd", "dkd"])}
        distributions |= {name: FloatDistribution(0, 1) for name in params if name != "base"}
        trial = create_trial(params=params, distributions=distributions, value=value)
        trial.number = number
        made.append(trial)
    return made


def test_each_parameter_is_judged_among_the_trials_that_have_it() -> None:
    found = {row.name: row for row in parameter_importance(trials(300)).parameters}
    assert found["base"].trials == found["x"].trials == 300
    assert found["kd.temperature"].trials + found["dkd.beta"].trials == 300
    assert {name: row.passes for name, row in found.items()} == {
        "base": True,
        "x": True,
        "noise": False,
        "kd.temperature": False,
        "dkd.beta": True,
    }


def test_a_share_is_that_of_the_ranks() -> None:
    made = trials(60)
    for trial in made:
        trial.value = -float(trial.params["x"])
    found = {row.name: row for row in parameter_importance(made).parameters}
    assert found["x"].share == pytest.approx(1.0)
    assert found["x"].p == pytest.approx(0.0)


def test_a_search_without_effects_names_a_parameter_in_one_of_twenty() -> None:
    named, draw = 0, random.Random(1)
    for _ in range(60):
        made = trials(40, seed=draw.randrange(10**6))
        for trial in made:
            trial.value = draw.gauss(0, 1)
        named += any(row.passes for row in parameter_importance(made).parameters)
    assert named <= 8, "60 searches, 3 expected; more than 8 in one of two hundred"


def test_p_is_that_of_the_f_test_times_the_number_of_parameters() -> None:
    made = trials(60)
    for number, trial in enumerate(made):
        trial.value = float(trial.params["x"]) + number % 7
    found = {row.name: row for row in parameter_importance(made).parameters}
    judged = sum(row.p is not None for row in found.values())
    groups = [
        scipy_stats.rankdata([trial.value for trial in made])[[trial.params["base"] == name for trial in made]]
        for name in ("kd", "dkd")
    ]
    assert found["base"].p == pytest.approx(min(1.0, judged * scipy_stats.f_oneway(*groups).pvalue))


def test_too_few_trials_are_refused_with_their_number() -> None:
    found = parameter_importance(trials(FEWEST - 1))
    assert found.parameters == ()
    assert found.reason == f"only {FEWEST - 1} complete trials have parameters; at least {FEWEST} are needed"


def test_a_branch_with_too_few_trials_is_not_judged() -> None:
    made = [trial for trial in trials(80) if trial.params["base"] == "kd"]
    made += [trial for trial in trials(80) if trial.params["base"] == "dkd"][:3]
    found = {row.name: row for row in parameter_importance(made).parameters}
    assert (found["dkd.beta"].trials, found["dkd.beta"].share, found["dkd.beta"].passes) == (3, None, False)


def test_equally_good_trials_say_nothing() -> None:
    made = trials(80)
    for trial in made:
        trial.value = 1.0
    assert not any(row.passes for row in parameter_importance(made).parameters)


def test_a_study_is_judged_without_its_baselines_and_unfinished_trials(tmp_path: Any) -> None:
    study = rich(tmp_path, 50)
    records = study.ledger.records()
    found = importance_of(study.ledger, records)
    complete = [record for record in records if record.state == "complete"]
    assert found.trials == sum(bool(record.params) for record in complete) == len(complete) - 1
    assert {row.name for row in found.parameters} >= {"method.base_loss", "method.cluster_weight", "method.scales"}
