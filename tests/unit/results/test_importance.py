"""PED-ANOVA by branch: what it finds, what it leaves alone, and when it says nothing."""

import random
from typing import Any

import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution
from optuna.trial import FrozenTrial, create_trial

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
        distributions = {name: FloatDistribution(0, 1) for name in params if name != "base"}
        distributions = {"base": CategoricalDistribution(["kd", "dkd"]), **distributions}
        trial = create_trial(params=params, distributions=distributions, value=value)
        trial.number = number
        made.append(trial)
    return made


def test_each_parameter_is_judged_among_the_trials_that_have_it() -> None:
    found = parameter_importance(trials(300), "maximize")
    groups = {group.condition: group for group in found.groups}
    assert set(groups) == {"", "base = kd", "base = dkd"}
    assert groups[""].trials == found.trials == 300
    assert groups["base = kd"].trials + groups["base = dkd"].trials == 300
    assert {row.name for row in groups[""].parameters} == {"base", "x", "noise"}
    clear = {row.name: row.is_clear for group in found.groups for row in group.parameters}
    assert clear == {"base": True, "x": True, "noise": False, "kd.temperature": False, "dkd.beta": True}


def test_direction_decides_which_trials_are_best() -> None:
    ones = trials(60)
    for trial in ones:
        trial.value = float(trial.params["x"] > 0.9)
    best = {way: parameter_importance(ones, way).groups[0].best for way in ("maximize", "minimize")}
    above = sum(trial.params["x"] > 0.9 for trial in ones)
    assert best["minimize"] == 60 - above
    assert best["maximize"] == max(above, 6) if above >= 6 else 60


def test_too_few_trials_are_refused_with_their_number() -> None:
    found = parameter_importance(trials(FEWEST - 1), "maximize")
    assert found.groups == ()
    assert f"only {FEWEST - 1} of the complete trials" in found.reason
    assert str(FEWEST) in found.reason


def test_a_branch_with_too_few_trials_is_not_judged() -> None:
    made = [trial for trial in trials(40) if trial.params["base"] == "kd"]
    made += [trial for trial in trials(40) if trial.params["base"] == "dkd"][:3]
    found = parameter_importance(made, "maximize")
    small = next(group for group in found.groups if group.condition == "base = dkd")
    assert [(row.name, row.importance, row.is_clear) for row in small.parameters] == [("dkd.beta", None, False)]


def test_equally_good_trials_say_nothing() -> None:
    made = trials(20)
    for trial in made:
        trial.value = 1.0
    rows = [row for group in parameter_importance(made, "maximize").groups for row in group.parameters]
    assert len(rows) == 5
    assert all(row.importance is None for row in rows)


def test_no_warning_and_no_log_line_leaks(capfd: pytest.CaptureFixture[str]) -> None:
    assert parameter_importance(trials(30), "minimize").groups  # warnings are errors here
    assert capfd.readouterr() == ("", "")


def test_a_study_is_judged_without_its_baselines_and_unfinished_trials(tmp_path: Any) -> None:
    study = rich(tmp_path, 26)
    records = study.ledger.records()
    found = importance_of(study.ledger, records)
    complete = [record for record in records if record.state == "complete"]
    assert found.trials == sum(bool(record.params) for record in complete) == len(complete) - 1
    assert {row.name for row in found.groups[0].parameters} >= {
        "method.base_loss",
        "method.cluster_weight",
        "method.scales",
    }
