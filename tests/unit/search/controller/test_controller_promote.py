"""Trials are paused at rungs, taken up again when they deserve it, and told as pruned when the sweep has ended."""

from pathlib import Path
from typing import Any

import pytest

from icd.search.core.attempts import Attempt
from icd.search.study.ledger import Ledger
from icd.search.sweep_status import found_line, status_of, trial_row
from tests.driving import EPOCHS, POINTS, REPEATS, Hand

PROMOTE: dict[str, Any] = {
    "pruner": {"name": "promote", "min_epochs": 1, "reduction": 2, "control_fraction": 0.0},
    "sampler": {"name": "tpe", "startup_trials": 2},
    "enqueue": ["KD"],
    "budget": {"trials": 9},
}


def value(number: int, epoch: int) -> float:
    return 50.0 + number * 9 % 11 + epoch


def falling(number: int) -> float:
    """Give a value that is worse than those of earlier trials, so that trials are paused one after another."""
    return 60.0 - number


def history(hand: Hand) -> list[Any]:
    return [
        (r.number, r.state, dict(r.params), tuple(r.values), dict(r.curve), r.key, r.control, r.paused_at, r.reason)
        for r in hand.ledger.records()
    ]


def begin(hand: Hand, count: int) -> list[Attempt]:
    found = [hand.driver.next_attempt() for _ in range(count)]
    return [task for task in found if task is not None]


def test_a_sweep_pauses_thaws_and_ends(tmp_path: Path) -> None:
    hand = Hand(tmp_path, **PROMOTE)
    given = hand.finish(value)
    records = hand.ledger.records()
    assert given == [0, 1, 2, 3, 2, 4, 5, 3, 2, 6, 7, 8], "2 from both rungs, 3 from the first"
    assert records[0].state == "complete", "a baseline is never paused"
    for record in records[1:]:
        assert record.attempts == given.count(record.number)
        if record.state == "pruned":
            assert record.paused_at == max(record.curve)
            assert record.reason == f"paused at epoch {record.paused_at} and not taken up again"
        else:
            assert (record.state, len(record.curve)) == ("complete", EPOCHS)
    assert [record.number for record in records if record.state == "complete"] == [0, 1, 2, 6, 7]
    assert [record.paused_at for record in records] == [None, None, 2, 2, 1, 1, None, None, 1]
    assert {int(view.key): view.mark for view in hand.ends} == dict(enumerate(hand.states))
    assert "running" not in {view.tags["state"] for view in hand.ends}
    assert hand.driver.stopped_by == "budget"


@pytest.mark.parametrize("cut_after", range(2, 12, 3))
@pytest.mark.parametrize("in_an_epoch", [False, True])
def test_a_driver_killed_at_any_time_changes_nothing(tmp_path: Path, cut_after: int, in_an_epoch: bool) -> None:
    for name in ("whole", "cut"):
        (tmp_path / name).mkdir()
    whole, cut = Hand(tmp_path / "whole", **PROMOTE), Hand(tmp_path / "cut", **PROMOTE)
    whole.finish(value)
    for _ in range(cut_after):
        if (task := cut.driver.next_attempt()) is not None:
            cut.train(task, value)
    if (task := cut.driver.next_attempt()) is not None and in_an_epoch:
        first = cut.ledger.record(task.number).paused_at or 1
        cut.epoch(task, first, value(task.number, first))  # it may have been paused with this, and nobody heard its end
    again = cut.again(**PROMOTE)
    again.finish(value)
    assert history(again) == history(whole)


def test_several_free_workers_take_up_different_trials(tmp_path: Path) -> None:
    hand = Hand(tmp_path, **PROMOTE, resources={"max_concurrent": 4})
    tasks = begin(hand, 5)
    for task in tasks[1:]:
        assert not hand.epoch(task, 1, falling(task.number))
        assert hand.ledger.record(task.number).state == "paused"
    assert 0 not in {task.number for task in begin(hand, 1)}, "none is taken up before its worker is free"
    for task in tasks[1:]:
        hand.end(task, "stopped")
    thawed = begin(hand, 2)
    assert [task.attempt for task in thawed] == [2, 2]
    assert [task.number for task in thawed] == [1, 2]
    assert hand.states[1:5] == ["running", "running", "paused", "paused"]
    assert hand.epoch(thawed[0], 1, falling(1)), "its last epoch is told again"


def test_a_paused_trial_is_shown_as_such_and_no_fault(tmp_path: Path) -> None:
    hand = Hand(tmp_path, **{**PROMOTE, "enqueue": []}, gpus=1.0)
    (task,) = begin(hand, 1)
    assert not hand.epoch(task, 1, 60.0, seconds=30.0)
    hand.end(task, "killed", "process killed (signal 9)")  # after it was paused: nothing is lost
    (record,) = hand.stored()
    assert (record.state, record.paused_at, record.attributes.get("faults")) == ("paused", 1, None)
    assert not hand.said
    row = trial_row(record, ["val/top1"])
    assert (row["state"], row["paused_at"], row["last"], row["values"], row["seconds"]) == ("paused", 1, 60.0, {}, 30.0)
    (view,) = hand.ends
    assert (view.tags["state"], view.mark, view.failed, [r.step for r in view.rows]) == ("paused", "", False, [1])
    assert found_line(hand.folder, [record]) == "found 0 done, 0 interrupted to continue, 1 lost", (
        "it has no checkpoint"
    )
    (task.folder / "checkpoints").mkdir()
    (task.folder / "checkpoints" / "epoch-000001.ckpt").touch()
    assert found_line(hand.folder, [record]) == "found 0 done, 0 interrupted to continue, 1 paused, 0 lost"
    status = status_of(tmp_path, "tiny")
    assert (status.counts["paused"], status.best, status.state) == (1, None, "stopped")
    assert status.used["trials"] == 1


@pytest.mark.parametrize("limit", [{"hours": 1e-9}, {"gpu_hours": 0.01}])
def test_no_trial_is_taken_up_once_the_hours_are_used(tmp_path: Path, limit: dict[str, float]) -> None:
    hand = Hand(tmp_path, gpus=1.0, **{**PROMOTE, "enqueue": [], "budget": {"trials": 9, "gpu_hours": 1}})
    tasks = begin(hand, 2)
    for task in tasks:
        hand.epoch(task, 1, falling(task.number), seconds=30.0)
        hand.end(task, "stopped")
    again = hand.again(**{**PROMOTE, "enqueue": [], "budget": limit})
    assert again.driver.next_attempt() is None, "a paused trial's 30 s count"
    assert again.driver.done
    again.driver.end_paused()
    assert again.states == ["pruned", "pruned"]


def test_a_sweep_that_is_asked_to_stop_leaves_its_paused_trials(tmp_path: Path) -> None:
    hand = Hand(tmp_path, **PROMOTE)
    tasks = begin(hand, 3)
    for task in tasks[1:]:
        hand.epoch(task, 1, falling(task.number))
        hand.end(task, "stopped")
    hand.driver.drain = True
    assert hand.driver.next_attempt() is None
    hand.train(tasks[0], value)
    assert hand.driver.done
    hand.driver.end_paused()
    assert hand.states == ["complete", "paused", "paused"]
    again = hand.again(**PROMOTE)
    again.finish(value)
    assert len(again.states) == 9


def test_the_configuration_of_a_paused_trial_is_not_trained_twice(tmp_path: Path) -> None:
    hand = Hand(tmp_path, **{**PROMOTE, "enqueue": [], "ranges": POINTS, "sampler": REPEATS})
    for task in begin(hand, 3):
        hand.epoch(task, 1, 60.0 - task.number)
        hand.end(task, "stopped")
    paused = [record for record in hand.ledger.records() if record.state == "paused"]
    twins = [record.twin for record in hand.ledger.records() if record.state == "duplicate"]
    assert len({record.key for record in paused}) == 3
    assert twins, "the sampler did repeat itself"
    assert set(twins) <= {record.number for record in paused}


def test_faults_at_the_beginning_do_not_end_a_sweep_with_paused_trials(tmp_path: Path) -> None:
    hand = Hand(tmp_path, **{**PROMOTE, "enqueue": []})
    (task,) = begin(hand, 1)
    hand.epoch(task, 1, 50.0)
    hand.end(task, "stopped")
    for _ in range(3):
        (task,) = begin(hand, 1)
        hand.end(task, "error", "ValueError")
    assert not hand.driver.drain
    assert Ledger(hand.storage, "tiny").record(0).state == "paused"
