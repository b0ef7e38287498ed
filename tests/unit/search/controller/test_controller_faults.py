"""What a driver makes of preemptions, quarantined places and devices that differ, driven by hand."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from icd.cli.format import status_lines
from icd.search.controller.node_health import QUARANTINED
from icd.search.controller.retry import NO_PROGRESS
from icd.search.core.attempts import Attempt, AttemptResult, EpochReport
from icd.search.core.device_usage import matches, mixed_cost, uses
from icd.search.core.location import Location
from icd.search.core.records import TrialRecord
from icd.search.sweep_status import status_of
from tests.driving import EPOCHS, Hand

BAD = Location(host="a", gpu="3")


def issued(hand: Hand) -> Attempt:
    task = hand.driver.next_attempt()
    assert task is not None
    return task


def end(hand: Hand, task: Attempt, kind: Any, place: Location | None = None, reason: str = "as asked") -> None:
    hand.driver.on_finished(
        AttemptResult(number=task.number, attempt=task.attempt, kind=kind, reason=reason, location=place)
    )


def test_a_preempted_trial_goes_on_first_and_has_no_fault(tmp_path: Path) -> None:
    hand = Hand(tmp_path, resources={"retries": 0})
    task = issued(hand)
    hand.epoch(task, 1)
    end(hand, task, "preempted", reason="SIGTERM: stopped after epoch 1 of 4")
    assert hand.said[-1] == "trial 0: SIGTERM: stopped after epoch 1 of 4; goes on from epoch 0"  # no checkpoint here
    again = issued(hand)
    assert (again.number, again.attempt) == (0, 2)
    assert "faults" not in hand.ledger.record(0).attributes
    assert hand.train(again)
    assert hand.states == ["complete"]
    hand.close()


def test_trials_that_never_get_on_halt_the_sweep(tmp_path: Path) -> None:
    hand = Hand(tmp_path)
    for count in range(NO_PROGRESS):
        assert hand.driver.halted is None, count
        task = issued(hand)
        hand.epoch(task, 1)  # the stored one, told again as every attempt does
        end(hand, task, "preempted")
    assert "trial 0 was preempted 10 times and got no epoch further" in str(hand.driver.halted)
    assert hand.driver.stopping
    assert hand.states == ["running"], "it can be resumed"
    hand.close()


def test_a_quarantined_place_is_shown_and_costs_no_retry(tmp_path: Path) -> None:
    hand = Hand(tmp_path, resources={"retries": 1})
    first, second, third = issued(hand), issued(hand), issued(hand)
    end(hand, first, "gpu", BAD, "CUDA error")
    assert hand.said[-1] == "trial 0: CUDA error; retry 1/1 from epoch 0"
    assert hand.ledger.record(0).attributes["faults"] == {"gpu": 1}
    for task in (second, third):
        end(hand, task, "gpu", BAD, "CUDA error")
    sentence = (
        "GPU 3 of host a: 3 trials failed there (gpu) and none has finished an epoch there since; it gets no more "
        "trials until the next 'icd resume'"
    )
    assert hand.said[-2:] == [sentence, "trial 2: CUDA error; not its own fault, it goes on elsewhere from epoch 0"]
    assert [hand.ledger.record(number).attributes["faults"] for number in (0, 2)] == [{"gpu": 1}, {}]
    assert list(hand.driver.quarantined) == [BAD]
    status = status_of(tmp_path, "tiny")
    assert status.to_data()["quarantined"] == [sentence]
    assert f"quarantined: {sentence}" in status_lines(status, [])
    hand = hand.again(resources={"retries": 1})
    assert status_of(tmp_path, "tiny").quarantined == []
    assert not hand.driver.quarantined
    assert QUARANTINED in hand.ledger.attributes
    hand.close()


def test_a_trial_whose_memory_did_not_suffice_is_tried_again_with_nothing_beside_it(tmp_path: Path) -> None:
    hand = Hand(tmp_path, budget={"trials": 4})
    first, second = issued(hand), issued(hand)
    end(hand, first, "memory", reason="killed for memory")
    assert hand.driver.left == 1
    assert hand.driver.next_attempt() is None, "another one still runs"
    assert hand.train(second)
    alone = issued(hand)
    assert (alone.number, alone.attempt) == (0, 2)
    assert hand.driver.next_attempt() is None
    assert not hand.driver.done
    end(hand, alone, "memory", reason="killed for memory; its process had at most 9.50 GB")
    assert hand.ledger.record(0).state == "failed"
    assert hand.ledger.record(0).reason == "killed for memory; its process had at most 9.50 GB"
    assert issued(hand).number == 2
    hand.close()


def test_other_machines_need_not_wait_for_a_trial_whose_memory_did_not_suffice(tmp_path: Path) -> None:
    hand = Hand(tmp_path)
    tasks = [issued(hand) for _ in range(3)]
    for task, host in zip(tasks, "ab", strict=False):
        metrics = {"val/top1": 50.0, "val/loss": 1.0, "train/loss": 1.0, "time": 1.0}
        said = EpochReport(number=task.number, attempt=1, epoch=1, metrics=metrics, device="cpu")
        hand.driver.on_epoch(replace(said, location=Location(host=host)))
    end(hand, tasks[2], "memory")
    assert hand.said[-1] == "trial 2: as asked; retry 1/1 from epoch 0"
    assert issued(hand).number == 2
    hand.close()


def test_how_much_is_left(tmp_path: Path) -> None:
    hand = Hand(tmp_path, budget={"trials": 3})
    assert hand.driver.left == 3
    task = issued(hand)
    assert hand.driver.left == 2
    end(hand, task, "killed")
    assert hand.driver.left == 3
    hand.driver.drain = True
    assert hand.driver.left == 0
    hand.driver.drain, hand.driver.stop_now = False, True
    assert hand.driver.left == 0
    hand.close()


def on(hand: Hand, task: Attempt, device: str, seconds: float) -> None:
    """Train a trial to its end on a device."""
    for epoch in range(1, EPOCHS + 1):
        metrics = {"val/top1": 50.0, "val/loss": 1.0, "seconds/epoch": seconds, "train/loss": 1.0, "time": 1.0}
        told = EpochReport(number=task.number, attempt=task.attempt, epoch=epoch, metrics=metrics, device=device)
        hand.driver.on_epoch(told)
    result = {"minutes": EPOCHS * seconds / 60, "parameters": 9, "student_sha256": "f" * 64, "epochs": EPOCHS}
    with (task.folder / "metrics.jsonl").open("a") as file:
        file.write(json.dumps({"epoch": EPOCHS, **metrics}) + "\n")
    ended = AttemptResult(number=task.number, attempt=task.attempt, kind="complete", result=result, device=device)
    hand.driver.on_finished(ended)


def test_costs_of_several_devices_are_told_apart_and_warned_of(tmp_path: Path) -> None:
    objectives = [{"metric": "val/top1"}, {"metric": "cost/seconds"}]
    hand = Hand(tmp_path, objective=objectives, sampler={"name": "random"}, resources={"hang_seconds": 60})
    on(hand, issued(hand), "A100", 20.0)
    assert not [line for line in hand.said if "WARNING" in line]
    assert issued(hand).hang_seconds == 100.0
    on(hand, issued(hand), "V100", 60.0)
    (warning,) = [line for line in hand.said if "WARNING" in line]
    assert "cost/seconds compares trials of different devices" in warning
    assert "1 on A100 (20 s an epoch), 1 on V100 (60 s an epoch)" in warning
    assert issued(hand).hang_seconds == 300.0, "five epochs of the slowest type"
    status = status_of(tmp_path, "tiny")
    assert [(use.device, use.trials, use.seconds_per_epoch) for use in status.devices] == [
        ("A100", 1, 20.0),
        ("V100", 1, 60.0),
    ]
    shown = status_lines(status, hand.ledger.records())
    assert "devices: 1 on A100 (20 s an epoch), 1 on V100 (60 s an epoch)" in shown
    assert warning in shown
    assert status.to_data()["warnings"] == [warning.removeprefix("WARNING: ")]
    hand.close()


def test_a_trial_that_came_to_another_device_is_neither_ones(tmp_path: Path) -> None:
    hand = Hand(tmp_path)
    task = issued(hand)
    metrics = {"val/top1": 50.0, "val/loss": 1.0, "seconds/epoch": 9.0, "train/loss": 1.0, "time": 1.0}
    hand.driver.on_epoch(EpochReport(number=0, attempt=1, epoch=1, metrics=metrics, device="A100"))
    end(hand, task, "preempted")
    hand = hand.again()  # another driver, too
    on(hand, issued(hand), "V100", 60.0)
    assert [use.device for use in uses(hand.ledger.records())] == ["A100 + V100"]
    hand.close()


def test_only_costs_in_seconds_are_mixed() -> None:
    one = TrialRecord(number=0, state="complete", attributes={"device": "A", "seconds": 8.0, "epochs": 4})
    two = replace(one, number=1, attributes={"device": "B", "seconds": 4.0, "epochs": 4})
    assert mixed_cost(["val/top1"], uses([one, two])) == ""
    assert mixed_cost(["cost/seconds"], uses([one, one])) == ""
    assert mixed_cost(["cost/seconds"], uses([one, replace(two, state="pruned")])) == ""
    assert "1 on A (2 s an epoch), 1 on B (1 s an epoch)" in mixed_cost(["cost/seconds"], uses([one, two]))


@pytest.mark.parametrize(
    ("pattern", "device", "expected"),
    [
        ("A100", "NVIDIA A100-SXM4-80GB", True),
        ("a100", "A100", True),
        ("A100*80GB", "NVIDIA A100-SXM4-80GB", True),
        ("A100", "NVIDIA H200", False),
        ("[", "x86_64 CPU, 1 threads", False),
    ],
)
def test_a_pattern_is_part_of_a_name(pattern: str, device: str, expected: bool) -> None:
    assert matches(pattern, device) is expected
