"""What MLflow should hold of a sweep follows from its study and its folders alone."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from icd.search.study.ledger import Ledger
from icd.search.tracking.run_view import SUMMARY, RunView
from icd.search.tracking.sweep_views import SweepViews, follow
from icd.worker.trial_folder import claim
from tests.driving import EPOCHS, Asked, Hand


def all_of(hand: Hand) -> dict[str, RunView]:
    """Give every run that a reader of the study asks for, as ``icd sync`` does."""
    ledger, asked = Ledger(hand.storage, hand.sweep.name), Asked()
    views = SweepViews(hand.space, ledger.attributes, hand.folder)
    follow(asked, views, ledger, driven=False)
    return {key: make() for key, make in asked.ends.items()}


def test_a_reader_asks_for_what_the_driver_asked_for(tmp_path: Path) -> None:
    hand = Hand(tmp_path, budget={"trials": 3}, enqueue=["KD"])
    while (attempt := hand.driver.next_attempt()) is not None:
        claim(attempt.folder, hand.space.read(hand.space.tried(hand.ledger.record(attempt.number))), resume=True)
        hand.train(attempt)
    views = all_of(hand)
    assert list(views) == ["0000", "0001", "0002", SUMMARY]
    for told, begun in zip(hand.ends, hand.tracker.begun, strict=True):
        view = views[told.key]
        assert view == told
        assert (view.params, view.name) == (begun.params, begun.name)
        assert [row.step for row in view.rows] == list(range(1, EPOCHS + 1))
        assert (view.mark, view.tags["group"]) == ("complete", "search")


def test_trials_that_nobody_began_are_not_shown(tmp_path: Path) -> None:
    hand = Hand(tmp_path, ranges={"cluster_weight": {"choices": [1.0, 2.0]}}, budget={"trials": 2})
    hand.finish()
    number = hand.ledger.ask(hand.space.suggest)
    assert f"{number:04d}" not in all_of(hand)
    assert len(all_of(hand)) == 1 + len([state for state in hand.states if state == "complete"])


def test_a_trial_that_was_pruned_shows_no_later_epoch(tmp_path: Path) -> None:
    """Its worker may have been further when it was stopped."""
    hand = Hand(tmp_path, budget={"trials": 1})
    attempt = hand.driver.next_attempt()
    assert attempt is not None
    hand.epoch(attempt, 1)
    hand.ledger.tell(attempt.number, "pruned", reason="pruned at epoch 1", exit_reason="pruned")
    hand.epoch(attempt, 2)
    assert [row.step for row in all_of(hand)["0000"].rows] == [1]


def test_the_summary_changes_its_mark_with_what_it_shows(tmp_path: Path) -> None:
    hand = Hand(tmp_path, budget={"trials": 2})
    hand.finish()
    hand.ledger.note_study(stopped_by="budget")
    first = all_of(hand)[SUMMARY]
    assert first.totals is not None
    assert (first.totals.step, first.totals.metrics["trials/complete"]) == (2, 2.0)
    assert (first.tags["best"], first.tags["stopped_by"]) == ("0001", "budget")
    assert all_of(hand)[SUMMARY] == first
    (hand.folder / "report.html").write_text("new")
    second = all_of(hand)[SUMMARY]
    assert second.mark != first.mark
    assert (second.totals, second.artifacts) == (first.totals, ["report.html"])


def test_only_trials_that_failed_are_counted_as_failed(tmp_path: Path) -> None:
    hand = Hand(tmp_path, budget={"trials": 2})
    hand.finish()
    records = hand.ledger.records()
    others = [replace(records[0], state=state) for state in ("failed", "duplicate", "retried", "interrupted")]
    views = SweepViews(hand.space, hand.ledger.attributes, hand.folder)
    summary = views.summary([*records, *others], driven=False)
    assert summary.totals is not None
    assert summary.totals.step == len(records) + len(others), "MLflow takes a smaller count at a later step only"
    counts = {name: count for name, count in summary.totals.metrics.items() if name.startswith("trials/")}
    assert counts == {"trials/complete": 2.0, "trials/pruned": 0.0, "trials/failed": 1.0}


@pytest.mark.parametrize(("metric", "ascending"), [("val/top1", False), ("val/loss", True)])
def test_the_leaderboard_is_sorted_by_the_objective(tmp_path: Path, metric: str, ascending: bool) -> None:
    hand = Hand(tmp_path, budget={"trials": 1}, objective=metric)
    hand.finish()
    view = all_of(hand)["0000"]
    assert (view.sorted_by, view.ascending) == (f"final/{metric}", ascending)
    assert view.totals is not None
    assert view.sorted_by in view.totals.metrics


def test_each_arm_is_a_run_with_mean_spread_and_interval(tmp_path: Path) -> None:
    hand = Hand(tmp_path, budget={"trials": 2})
    hand.finish()
    arms = [
        {"label": "trial 1", "n": 3, "mean": 71.0, "sd": 0.2, "low": 70.5, "high": 71.5, "trials": [0, 1]},
        {"label": "iCD KD", "n": 0, "mean": None, "sd": None, "low": None, "high": None, "trials": []},
    ]
    found = {
        "metric": "test/top1",
        "statement": "trial 1 is better",
        "winner": "trial 1",
        "finished": True,
        "test_evaluations": 6,
        "arms": arms,
    }
    hand.ledger.note_study(**{"arms/confirm/1": found})
    views = all_of(hand)
    (key,) = [key for key in views if key.startswith("arms/")]
    arm = views[key]
    assert (key, arm.name) == ("arms/confirm/1/trial_1", "trial 1 (mean of 3)")
    assert arm.totals is not None
    assert arm.totals.metrics == {
        "test/top1": 71.0,
        "test/top1/sd": 0.2,
        "test/top1/n": 3.0,
        "test/top1/low": 70.5,
        "test/top1/high": 71.5,
    }
    assert (arm.tags["group"], arm.tags["stage"], arm.tags["arm"]) == ("arms", "confirm/1", "trial 1")
    summary = views[SUMMARY]
    assert (summary.tags["confirmed"], summary.tags["winner"]) == ("trial 1 is better", "trial 1")
    assert summary.totals is not None
    assert summary.totals.metrics["confirm/trial_1"] == 71.0
    more = json.loads(json.dumps(found).replace("71.0", "71.25"))
    hand.ledger.note_study(**{"arms/confirm/1": more})
    assert all_of(hand)[key].mark != arm.mark
    hand.ledger.note_study(**{"arms/confirm/2": {**found, "statement": "nothing yet", "finished": False}})
    assert all_of(hand)[SUMMARY].tags["confirmed"] == "trial 1 is better", "the last one that is finished"
