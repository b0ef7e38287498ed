"""What is left out of a configuration, how parts are counted, and what is said of them."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import pytest

from icd.config.read_trial import read_trial
from icd.config.trial import TrialConfig
from icd.config.yaml import Document
from icd.errors import StateError
from icd.fields import NonNegative
from icd.methods import CellDistillation
from icd.results import ablate
from icd.results.ablate import ablations, complexity, make_plan
from icd.results.outcome import WHOLE
from icd.results.plan import stored_plans
from icd.results.read_outcome import outcome_of
from tests.ablating import SEEDS, ablated, planned, study_at, told
from tests.confirmed import confirmation
from tests.studies import Study

ICD = {"recipe": "iCD-KD"}


def config(method: Any) -> TrialConfig:
    return read_trial(
        Document(
            {
                "data": "digits100",
                "teacher": {"arch": "resnet8", "weights": "train"},
                "student": "resnet8",
                "method": method,
            },
            "x",
        )
    )


# Parts


def test_every_part_is_left_out_once() -> None:
    tuned = {
        "scales": [1, 2, 4],
        "cluster_scale_weights": [0.2, 0.2, 0.6],
        "cluster_weight": 8,
        "cluster_temperature": 1,
    }
    base = {"dkd": {"temperature": 2, "alpha": 1, "beta": 4}}
    whole = config({**tuned, "base_loss": base})
    found = {label: other.method for label, other in ablations(whole).items()}
    assert list(found) == [
        "without scale 1",
        "without scale 2",
        "without scale 4",
        "cluster weight 0",
        "cluster temperature 2",
        "the authors' scale weights",
        "temperature 4",
        "beta 8",
        "base loss KD",
    ]
    assert (
        found["without scale 2"]
        == config({**tuned, "base_loss": base, "scales": [1, 4], "cluster_scale_weights": [0.25, 0.75]}).method
    )
    assert found["cluster weight 0"] == replace(cast("CellDistillation", whole.method), cluster_weight=0.0)
    assert found["base loss KD"] == config(tuned).method
    assert found["beta 8"] == config({**tuned, "base_loss": {"dkd": {"temperature": 2, "alpha": 1}}}).method
    for other in ablations(whole).values():
        assert replace(other, method=whole.method) == whole
        assert read_trial(Document(other.to_data(), "x")) == other
        assert complexity(other) <= complexity(whole)


def test_a_scale_whose_weight_is_all_leaves_the_authors_weights() -> None:
    whole = config({**ICD, "scales": [2, 4], "cluster_scale_weights": [1, 0]})
    assert ablations(whole)["without scale 2"].method == config({**ICD, "scales": [4]}).method


def test_settings_at_their_default_are_no_parts() -> None:
    assert set(ablations(config("iCD-KD"))) == {
        "without scale 1",
        "without scale 2",
        "without scale 4",
        "cluster weight 0",
    }
    assert ablations(config("KD")) == {}
    assert set(ablations(config("DKD"))) == {"beta 8", "base loss KD"}


@dataclass(frozen=True)
class OfPlugin:
    """Its default is written as a whole number."""

    weight: NonNegative = 1


def test_a_number_whose_default_is_written_as_a_whole_one_is_a_part() -> None:
    method = cast(CellDistillation, config("KD").method)
    whole = replace(config("KD"), method=replace(method, base_loss=cast(Any, OfPlugin(weight=2.0))))
    assert set(ablations(whole)) == {"weight 1", "base loss KD"}


def test_equal_changes_are_listed_once_and_nothing_else_than_logits_has_parts() -> None:
    assert set(ablations(config({"recipe": "KD", "base_loss": {"kd": {"temperature": 2}}}))) == {"temperature 4"}
    assert ablations(config("sp")) == {}
    assert complexity(config("sp")) == 0


def test_a_configuration_of_the_cluster_term_alone_keeps_it() -> None:
    alone = config({**ICD, "ce_weight": 0, "base_weight": 0})
    assert "cluster weight 0" not in ablations(alone)


@pytest.mark.parametrize(
    ("method", "parts"),
    [
        ("KD", 0),
        ({"recipe": "KD", "base_loss": {"kd": {"temperature": 2}}}, 1),
        ("SD-KD", 2),
        ("iCD-KD", 3),
        ({**ICD, "scales": [1, 4]}, 2),
        ({**ICD, "cluster_temperature": 1}, 4),
        ({**ICD, "cluster_scale_weights": [0.2, 0.2, 0.6]}, 4),
        ({**ICD, "cluster_weight": 0, "cluster_temperature": 1}, 2),
        ({**ICD, "base_scale_weights": [1, 1, 2]}, 4),
        ({**ICD, "base_weight": 0, "base_loss": {"dkd": {"beta": 2}}, "base_scale_weights": [1, 1, 2]}, 3),
        ("DKD", 2),
        ("NKD", 1),
    ],
)
def test_complexity(method: Any, parts: int) -> None:
    assert complexity(config(method)) == parts


def test_leaving_out_a_scale_keeps_the_authors_weights() -> None:
    for label, other in ablations(config("iCD-KD")).items():
        assert complexity(other) == 2, label


# Plan


@pytest.fixture
def study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Study:
    monkeypatch.delenv("ICD_STORAGE_URL", raising=False)
    return study_at(tmp_path)


def test_the_best_trial_is_taken_apart_on_validation_images(study: Study) -> None:
    plan = make_plan(study.ledger, study.sweep, trial=None, seeds=5)
    assert [arm.label for arm in plan.arms] == [
        *ablations({run.arm: run.configs[""] for run in plan.runs([])}[WHOLE]),
        WHOLE,
    ]
    assert [arm.parts for arm in plan.arms] == [
        complexity(item) for item in {run.arm: run.configs[""] for run in plan.runs([])}.values()
    ]
    assert (plan.arms[-1].trial, plan.arms[-1].kind) == (1, "baseline")
    assert plan.seeds == (101, 102, 103, 104, 105)
    assert plan.objective.metric == "val/top1"
    for item in plan.configs:
        assert (item.data.train_on, item.data.measure_on) == ("train", "val")
    record = study.ledger.record(1)
    searched = study.space.read(study.space.document(record.params))
    assert (
        replace({run.arm: run.configs[""] for run in plan.runs([])}[WHOLE], seed=searched.seed).key() == searched.key()
    )  # measured as in the search


def test_what_cannot_be_taken_apart(study: Study) -> None:
    for trial, rule in ((0, "trial 0 of 'by-hand' has no part"), (2, "trial 2 of sweep"), (99, "trial 99 of sweep")):
        with pytest.raises(StateError) as caught:
            make_plan(study.ledger, study.sweep, trial=trial, seeds=3)
        assert rule in str(caught.value)


@pytest.mark.parametrize("finished", [True, False])
def test_only_the_winner_of_a_finished_confirmation_is_taken_apart(
    study: Study, monkeypatch: pytest.MonkeyPatch, *, finished: bool
) -> None:
    found = confirmation(finished=finished)
    found = replace(found, arms=(replace(found.arms[0], trial=0), *found.arms[1:]))
    monkeypatch.setattr(ablate, "outcome_of", lambda ledger, stage: found)
    study.ledger.announce = (said := list[str]()).append
    if finished:
        with pytest.raises(StateError, match="trial 0 of 'by-hand' has no part"):
            make_plan(study.ledger, study.sweep)
        assert said == []
    else:
        assert make_plan(study.ledger, study.sweep).arms[-1].trial == 1
        assert said == ["no confirmed winner of by-hand, so its best trial is taken apart: 1"]


# Reading


def test_nothing_was_ablated(study: Study) -> None:
    assert outcome_of(study.ledger, "ablate") is None
    planned(study)
    found = outcome_of(study.ledger, "ablate")
    assert found is not None
    assert (found.trial, found.whole.mean, found.simplest, found.finished) == (1, None, None, False)
    assert found.statement.startswith("Nothing can be said yet")


def test_a_part_that_is_needed_and_one_that_harms(study: Study) -> None:
    better = {"cluster weight 0": (64.0, 65.1, 65.9), "without scale 1": (59.5, 61.5, 62.0)}
    found = ablated(study, better)
    assert (found.metric, found.whole.mean, found.whole.sd, found.whole.parts) == ("val/top1", 61.0, 1.0, 3)
    assert found.of("without scale 2")[0].verdict == "worse"
    assert found.of("without scale 2")[0].difference == pytest.approx(-20.5)
    assert found.of("cluster weight 0")[0].verdict == "better"
    assert found.of("without scale 1")[0].verdict == "no difference shown"
    assert found.simplest == "cluster weight 0"
    assert "Trial 1 reaches 61.00 % on validation images." in found.statement
    assert "It gets worse with: without scale 2 (-20.50 points, interval " in found.statement
    assert "It gets better with: cluster weight 0 (+4.00 points, interval " in found.statement
    assert "No difference was shown with: without scale 1 (+0.00 points, interval " in found.statement
    assert "so its parts look more useful than they are." in found.statement
    assert "of the best: cluster weight 0." in found.statement
    assert "preference" not in found.statement, "it is the best itself, so there is no error of a difference"
    assert found.comparisons[0].arm == "without scale 1"


def test_the_simplest_is_within_one_standard_error_of_the_best(study: Study) -> None:
    found = ablated(study, {"without scale 2": (60.3, 60.8, 61.7)})
    assert found.simplest == "without scale 2"
    assert found.simplest_error > 0
    worse = f"one that is worse by {2 * found.simplest_error:.2f} points is within it in one of six cases."
    assert f"That is a preference and no test: {worse}" in found.statement


def test_nothing_simpler_is_within_one_standard_error(study: Study) -> None:
    found = ablated(study, {"without scale 2": (59.4, 60.5, 61.6)})
    assert found.simplest == WHOLE
    assert "Nothing simpler is within one standard error of the best." in found.statement


def test_an_arm_without_its_first_seeds_is_not_the_simplest(study: Study) -> None:
    found = ablated(study, {"cluster weight 0": (70.0, None, None)})
    assert found.simplest == WHOLE
    assert found.of("cluster weight 0")[0].seeds == 1


def test_a_run_that_failed_is_named(study: Study) -> None:
    others = {"without scale 1": (40.3, 41.2, 41.8), "cluster weight 0": (39.5, 40.9, 41.9)}
    found = ablated(study, {"without scale 2": (40.0, None, 41.0), **others})
    assert found.of("without scale 2")[0].verdict == "worse"
    assert "without scale 2 gave no result on seed 102: diverged; the run is left out." in found.statement


def test_arms_that_would_hardly_show_anything_get_no_further_seeds(study: Study) -> None:
    plan = planned(study, seeds=5)
    far = {arm.label: (40.0, 40.5, 41.1) for arm in plan.arms}
    told(study.ledger, plan, {**far, WHOLE: (60.0, 61.0, 62.0), "without scale 1": (60.1, 60.9, 62.0)})
    more = plan.listed(study.ledger.records("ablate"))[3 * len(plan.arms) :]
    assert {arm.label for arm, _ in more} == {arm.label for arm in plan.arms} - {"without scale 1"}
    found = outcome_of(study.ledger, "ablate")
    assert found is not None
    assert not found.finished
    assert found.statement.endswith("This ablation is not finished.")


def test_another_ablation_has_seeds_of_its_own(study: Study) -> None:
    ablated(study)
    again = planned(study, anew=True)
    assert (again.round, again.seeds) == (2, (104, 105, 106))
    assert [plan.seeds for plan in stored_plans(study.ledger, "ablate")] == [SEEDS, again.seeds]
    found = outcome_of(study.ledger, "ablate")
    assert found is not None
    assert (found.round, found.finished, found.whole.mean, found.under_way) == (1, True, 61.0, 2)
    assert found.statement.endswith("Ablation 2 is under way.")
    assert [record.stage for record in study.ledger.records()] == ["search"] * 6  # the search has none of it
