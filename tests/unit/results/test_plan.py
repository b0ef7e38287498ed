"""Which runs a plan makes: rows by seed, then those that may still show something; and what they count."""

import json
from itertools import groupby
from typing import Any

import pytest

from icd.results.outcome import FailedRuns
from icd.results.plan import Plan, seeds_beside
from icd.search.core.records import State, run_label
from tests.confirming import ended, gaps, level, plan_of, record_of


def seeds_of(names: list[str]) -> dict[str, int]:
    """Count the runs of each arm."""
    return {arm: len(list(own)) for arm, own in groupby(sorted(name.partition(" seed ")[0] for name in names))}


def test_rows_by_seed_with_all_arms_first() -> None:
    plan = plan_of(adaptive=False)
    runs = plan.runs([])
    assert [run.label for run in runs[:4]] == [
        "trial 0 seed 101",
        "trial 1 seed 101",
        "KD seed 101",
        "trial 0 seed 102",
    ]
    assert len(runs) == 15
    assert {(config.seed, config.data.train_on, config.data.measure_on) for config in plan.configs} == {
        (seed, "train+val", "test") for seed in plan.seeds
    }
    assert [config.seed for config in plan.configs] == [run.seed for run in runs]
    assert run_label(2, "KD", 106) == "KD seed 106 (2)"


def test_without_results_only_the_first_rows_are_listed() -> None:
    assert len(plan_of().runs([])) == 9
    assert len(plan_of(first=2).runs([])) == 6


def test_an_arm_that_may_still_be_shown_gets_all_seeds_and_a_futile_one_ends() -> None:
    def value(arm: str, seed: int) -> float:  # trial 0 is ahead of KD, trial 1 is not
        return level(arm, seed) + (4.0 if arm == "trial 0" else 0.0)

    assert seeds_of(ended(plan_of(), value).names) == {"trial 0": 5, "trial 1": 3, "KD": 5}
    assert seeds_of(ended(plan_of(), level).names) == {"trial 0": 3, "trial 1": 3, "KD": 3}


def test_nothing_is_shown_early() -> None:
    """A difference that leaves no doubt after three seeds gets the others too."""
    assert seeds_of(ended(plan_of(finalists=1), gaps(trial_0=30)).names) == {"trial 0": 5, "KD": 5}


def test_a_baseline_ends_where_nobody_needs_it() -> None:
    def value(arm: str, seed: int) -> float:  # far ahead of SD-KD, level with KD
        return level(arm, seed) - (20.0 - seed % 2 / 4 if arm == "SD-KD" else 0.0)

    plan = plan_of(finalists=1, baselines=("KD", "SD-KD"))
    assert seeds_of(ended(plan, value).names) == {"trial 0": 5, "KD": 3, "SD-KD": 5}


def test_all_seeds_run_where_that_is_asked() -> None:
    assert seeds_of(ended(plan_of(adaptive=False), gaps(trial_0=5)).names) == {"trial 0": 5, "trial 1": 5, "KD": 5}


@pytest.mark.parametrize(
    ("state", "counted", "seeds"),
    [
        ("failed", "left-out", 4),
        ("pruned", "left-out", 4),
        ("pruned", "chance-level", 5),
        ("failed", "chance-level", 4),
    ],
)
def test_a_run_without_a_result_counts_as_the_plan_says(state: State, counted: FailedRuns, seeds: int) -> None:
    plan = plan_of(finalists=1, failed_runs=counted)
    records, names = ended(plan, gaps(trial_0=5), failed={("trial 0", 102): state})
    assert seeds_of(names) == {"trial 0": 5, "KD": 5}, "it holds nobody up"
    own = plan.values(records)["trial 0", ""]
    assert len(own) == seeds
    assert own.get(102) == (1.0 if seeds == 5 else None)


def test_an_arm_that_never_works_gets_every_seed() -> None:
    plan = plan_of(finalists=1)
    failed: dict[Any, State] = {("trial 0", seed): "pruned" for seed in plan.seeds}
    assert seeds_of(ended(plan, level, failed=failed).names) == {"trial 0": 5, "KD": 5}


@pytest.mark.parametrize("late", ["trial 0 seed 101", "trial 1 seed 102", "KD seed 103"])
def test_seeds_are_added_only_once_every_run_before_has_ended(late: str) -> None:
    """With several workers a run of an early row may end last; what follows must not depend on that."""
    plan = plan_of()
    records = [record_of(run, number, gaps(trial_0=5)) for number, run in enumerate(plan.runs([]))]
    known = [record for record in records if record.baseline != late]
    assert [run.label for run in plan.runs(known)] == [run.label for run in plan.runs([])]


def test_the_list_is_a_function_of_what_ended_in_whatever_order() -> None:
    plan = plan_of()
    records, names = ended(plan, gaps(trial_0=0.7))
    assert len(names) > 9
    assert [run.label for run in plan.runs(records[::-1])] == names
    for count in range(len(records)):
        listed = [run.label for run in plan.runs(records[:count])]
        assert listed == names[: len(listed)]


def test_other_rounds_do_not_count() -> None:
    first, second = plan_of(), plan_of(round=2)
    records, _ = ended(first, gaps(trial_0=5))
    assert len(second.runs(records)) == 9
    assert second.runs([])[0].label == "trial 0 seed 101 (2)"


def test_plans_are_plain_data() -> None:
    plan = plan_of(train_on="train", alpha=0.1, adaptive=False, round=3, failed_runs="chance-level")
    assert Plan.from_data(json.loads(json.dumps(plan.to_data()))) == plan
    assert plan.objective.metric == "test/top1"


def test_seeds_are_those_of_the_sweep_and_of_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("icd.results.plan.SEED_BLOCKS", 1_000_000)
    one, other = seeds_beside((), 5, "one sweep"), seeds_beside((), 5, "another")
    assert one == seeds_beside((), 5, "one sweep")
    assert not set(one) & set(other)
    assert min(*one, *other) > 100, "searches use small ones"
    assert seeds_beside(one[:2], 3, "one sweep") == one[2:]
