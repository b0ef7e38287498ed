"""Predicted epochs and cost, against sums done by hand."""

from pathlib import Path
from typing import Any

import pytest

from icd.cli.sweep import plan_lines
from icd.config.read_sweep import read_sweep
from icd.config.sweep import PrunerConfig, SweepConfig
from icd.config.yaml import Document
from icd.search.planning import Cost, epochs_when_pruned, make_plan, predict
from icd.search.settings import Settings
from tests.driving import POINTS, Hand
from tests.studies import changed

PACES = {"a>b": {"epoch_seconds": 9.0, "spread": 1.5}, "a>c": {"epoch_seconds": 11.0, "spread": 2.0}}


def sweep(**parts: object) -> SweepConfig:
    return read_sweep(Document(changed(**parts), "test"))


@pytest.mark.parametrize(
    ("name", "mean"),
    [
        ("none", 9.0),
        ("successive_halving", 1 + 2 / 3 + 6 / 9),  # all reach 1, a third reach 3, a ninth reach 9
        ("median", 5.0),
        # Halvings that begin at 1, 3 and 9, with 9, 5 and 3 of 17 trials.
        ("hyperband", (9 * (1 + 2 / 3 + 6 / 9) + 5 * (3 + 6 / 3) + 3 * 9) / 17),
    ],
)
def test_mean_epochs(name: str, mean: float) -> None:
    pruner = PrunerConfig(name=name, min_epochs=1, reduction=3)  # type: ignore[arg-type]
    assert epochs_when_pruned(pruner, 9) == pytest.approx(mean)


def test_the_last_stretch_is_cut_at_the_end() -> None:
    pruner = PrunerConfig(name="successive_halving", min_epochs=2, reduction=2)
    assert epochs_when_pruned(pruner, 6) == pytest.approx(2 + 2 / 2 + 2 / 4)
    assert epochs_when_pruned(pruner, 1) == 1


def test_cost() -> None:
    pruned = sweep(pruner={"name": "successive_halving", "min_epochs": 1, "reduction": 2, "control_fraction": 0.2})
    cost = predict(pruned, 11, 4, PACES, concurrent=2, gpus_per_trial=0.5)
    # 1 baseline and 2 of 10 others are whole; 8 take 1 + 1/2 + 2/4 = 2 epochs.
    assert cost.epochs == (3 * 4 + 8 * 2, 44)
    assert cost.wall_hours == pytest.approx((28 * 10 / 3600 / 2, 44 * 10 * 2 / 3600 / 2))
    assert cost.gpu_hours == pytest.approx((28 * 10 / 3600 / 2, 44 * 10 * 2 / 3600 / 2))


def test_a_sweep_that_ends_by_its_hours_is_planned(tmp_path: Path) -> None:
    hours = sweep(budget={"hours": 2.0}, enqueue=None)
    plan = make_plan(hours, Settings(root=tmp_path / "root"), measure=False)
    assert (plan.trials, plan.cost) == (None, Cost(epochs=None, wall_hours=(2.0, 2.0)))
    assert plan.disk_bytes > 0
    assert "as many trials as the hours allow" in plan_lines(plan)[0]
    assert not (tmp_path / "root").exists()


@pytest.mark.parametrize(("trials", "listed"), [(2, [1]), (4, [1, 2, 3]), (60, [1, 2, 3, 4, 5])])
def test_no_more_trials_are_listed_than_the_budget_allows(tmp_path: Path, trials: int, listed: list[int]) -> None:
    plan = make_plan(sweep(budget={"trials": trials}), Settings(root=tmp_path / "root"), measure=False)
    assert plan.baselines == ["KD"]
    assert list(plan.suggestions) == listed


@pytest.mark.parametrize(
    ("sampler", "trials", "planned"),
    [
        ("grid", None, 3 + 1),  # of two baselines one is a point
        ("grid", 2, 2),
        ("tpe", 9, 3 + 1),
    ],
)
def test_a_finite_space_has_no_more_trials_than_points(
    tmp_path: Path, sampler: str, trials: int | None, planned: int
) -> None:
    enqueue = ["KD", {"label": "two", "method": {"cluster_weight": 2}}]
    parts: dict[str, Any] = {"ranges": POINTS, "sampler": {"name": sampler}, "enqueue": enqueue}
    hand = Hand(tmp_path, **parts, budget={"trials": trials})
    plan = make_plan(hand.sweep, Settings(root=tmp_path), measure=False)
    assert (plan.trials, len(hand.finish())) == (planned, planned)


def test_a_plan_says_what_it_does_not_know(tmp_path: Path) -> None:
    plan = make_plan(sweep(), Settings(root=tmp_path / "root"), measure=False)
    lines = plan_lines(plan)
    assert {"wall time: not known", "GPU-hours: not known"} <= set(lines)
    assert any("--measure times a few steps here, and first trains the teacher" in line for line in lines)


def test_nothing_measured_gives_epochs_only() -> None:
    cost = predict(sweep(pruner=None), 5, 4, {}, concurrent=1, gpus_per_trial=0)
    assert (cost.epochs, cost.wall_hours, cost.gpu_hours) == ((20, 20), None, None)
