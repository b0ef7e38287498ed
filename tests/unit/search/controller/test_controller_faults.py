"""What a driver makes of preemptions, quarantined places and devices that differ, driven by hand."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from icd.cli.format import status_lines
from icd.search.controller.retry import NO_PROGRESS, QUARANTINED
from icd.search.core.attempts import Attempt, AttemptResult, EpochReport, Location
from icd.search.sweep_status import status_of
from tests.driving import Hand

BAD = Location(host="a", gpu="3")


def issued(hand: Hand) -> Attempt:
    attempt = hand.driver.next_attempt()
    assert attempt is not None
    return attempt


def end(hand: Hand, attempt: Attempt, kind: Any, location: Location | None = None, reason: str = "as asked") -> None:
    hand.driver.on_finished(
        AttemptResult(number=attempt.number, attempt=attempt.attempt, kind=kind, reason=reason, location=location)
    )


def test_a_preempted_trial_goes_on_first_and_has_no_fault(tmp_path: Path) -> None:
    hand = Hand(tmp_path, resources={"retries": 0})
    attempt = issued(hand)
    hand.epoch(attempt, 1)
    end(hand, attempt, "preempted", reason="SIGTERM: stopped after epoch 1 of 4")
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
        attempt = issued(hand)
        hand.epoch(attempt, 1)  # the stored one, told again as every attempt does
        end(hand, attempt, "preempted")
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
    for attempt in (second, third):
        end(hand, attempt, "gpu", BAD, "CUDA error")
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


def test_a_resume_does_not_forget_that_a_trial_must_be_alone(tmp_path: Path) -> None:
    hand = Hand(tmp_path)
    first, second = issued(hand), issued(hand)
    end(hand, first, "memory")
    again = hand.again()
    assert issued(again).number == second.number, "the other one was begun and need not be alone"
    assert again.driver.next_attempt() is None
    assert again.train(Attempt(number=1, attempt=2, runs=second.runs, context=second.context))
    for kind in ("preempted", "stopped"):
        alone = issued(again)
        assert alone.number == 0
        assert again.driver.next_attempt() is None, kind
        end(again, alone, kind)
    assert again.train(issued(again))
    assert issued(again).number == 2
    assert again.driver.next_attempt() is not None
    again.close()


def test_other_machines_need_not_wait_for_a_trial_whose_memory_did_not_suffice(tmp_path: Path) -> None:
    hand = Hand(tmp_path)
    attempts = [issued(hand) for _ in range(3)]
    for attempt, host in zip(attempts, "ab", strict=False):
        metrics = {"val/top1": 50.0, "val/loss": 1.0, "train/loss": 1.0, "time": 1.0}
        said = EpochReport(number=attempt.number, attempt=1, epoch=1, metrics=metrics, device="cpu")
        hand.driver.on_epoch(replace(said, location=Location(host=host)))
    end(hand, attempts[2], "memory")
    assert hand.said[-1] == "trial 2: as asked; retry 1/1 from epoch 0"
    again = hand.again()
    assert [issued(again).number for _ in range(3)] == [0, 1, 2], "a driver that replaces it knows the machines"
    again.close()
