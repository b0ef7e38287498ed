"""``icd try`` on a driver that is driven by hand: what is asked for becomes a trial once, or is refused."""

from pathlib import Path
from typing import Any

import pytest

from icd import search
from icd.cli.main import main
from icd.errors import ConfigError, StateError, UsageError
from icd.search.asking import TryResult
from icd.search.core.trial_request import TrialRequest
from icd.search.study.locks import driver_lock
from icd.search.study.sweep_files import sweep_files_of
from icd.search.study.sweep_study import OUTSIDE
from icd.search.suggest.search_source import retry_failed
from icd.search.sweep_status import has_ended
from tests.driving import Hand

PARTS: dict[str, Any] = {"enqueue": ["iCD-KD"], "budget": {"trials": 6}}


@pytest.fixture
def hand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Hand:
    """A sweep with three complete trials, of which the last is the best, and room for three more."""
    monkeypatch.delenv("ICD_STORAGE_URL", raising=False)
    hand = Hand(tmp_path, **PARTS)
    for _ in range(3):
        attempt = hand.driver.next_attempt()
        assert attempt is not None
        hand.train(attempt)
    return hand


def asked(hand: Hand, *overrides: str, **options: Any) -> TryResult:
    return search.try_trial("tiny", overrides, root=hand.root, **options)


def waiting(hand: Hand) -> int:
    return len(sweep_files_of(hand.folder).requests())


def test_it_becomes_the_next_trial_and_the_sampler_learns_from_it(hand: Hand) -> None:
    found = asked(hand, "method.cluster_weight=8")
    assert (found.trial, found.state, found.base, found.searched, waiting(hand)) == (None, "queued", 2, True, 1)
    assert search.status("tiny", root=hand.root).requests == 1
    hand.take()
    assert waiting(hand) == 0
    attempt = hand.driver.next_attempt()
    assert attempt is not None
    best = hand.space.tried(hand.ledger.record(2))
    assert attempt.runs[""]["method"]["cluster_weight"] == 8
    assert attempt.runs[""]["training"]["lr"] == hand.space.read(best).training.lr
    record = hand.ledger.record(3)
    assert (record.start, record.key, record.control) == ("try method.cluster_weight=8", found.key, False)
    assert record.params["method.cluster_weight"] == 8
    hand.train(attempt)
    assert hand.finish() == [4, 5]  # it was one of the budget's six
    assert hand.again(**PARTS).finish() == []


def test_outside_the_ranges_the_sampler_does_not_see_it(hand: Hand) -> None:
    found = asked(hand, "method=DKD", "training.lr=0.3", label="bold", base=0)
    assert (found.searched, found.base, found.label) == (False, 0, "try bold")
    hand.take()
    assert OUTSIDE in hand.ledger.frozen([3])[0].user_attrs
    again = hand.again(**PARTS)
    attempt = again.driver.next_attempt()  # what a killed driver took is read from the study again
    assert attempt is not None
    assert (attempt.number, attempt.attempt, attempt.runs[""]["training"]["lr"]) == (3, 1, 0.3)
    again.end(attempt, "setup", "no")
    assert retry_failed(again.ledger) == [4]
    assert again.space.tried(again.ledger.record(4))["training"]["lr"] == 0.3


@pytest.mark.parametrize(("sampler", "learns"), [("auto", True), ("nsga2", False)])
def test_nsga2_learns_from_its_own_draws_alone(tmp_path: Path, sampler: str, learns: bool) -> None:
    hand = Hand(tmp_path, sampler={"name": sampler}, budget={"trials": 3})
    attempt = hand.driver.next_attempt()
    assert attempt is not None
    hand.train(attempt)
    assert asked(hand, "method.cluster_weight=8").searched is learns


def test_a_configuration_that_a_trial_has_is_not_asked_for(hand: Hand) -> None:
    weight = hand.ledger.record(1).params["method.cluster_weight"]
    found = asked(hand, f"method.cluster_weight={weight!r}")
    assert (found.trial, found.state, found.values, found.request) == (1, "complete", {"val/top1": 55.0}, None)
    first, second = asked(hand, "method.cluster_weight=9"), asked(hand, "method.cluster_weight=9.0")
    assert (second.request, second.key, waiting(hand)) == (first.request, first.key, 1)


def test_all_mistakes_come_at_once(hand: Hand) -> None:
    with pytest.raises(ConfigError) as caught:
        asked(hand, "method.cluster_weight=-1", "method.cluster_wait=1", "training.lr=much")
    told = [(problem.source, problem.path) for problem in caught.value.problems]
    assert {path for _, path in told} == {"method.cluster_weight", "method.cluster_wait", "training.lr"}
    assert all(source.startswith(f"--set {path}=") for source, path in told)
    with pytest.raises(ConfigError) as caught:
        asked(hand, "seed=7", "training.epochs=9", "data.val_fraction=0.5", "student.arch=resnet14")
    assert {problem.path for problem in caught.value.problems} == {"seed", "training.epochs", "data", "student"}
    assert waiting(hand) == 0


def test_what_a_driver_has_not_taken_says_who_will(hand: Hand, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["try", hand.ledger.name, "--set", "method.cluster_weight=8", "--wait", "0", "--root", str(hand.root)]
    hand.close()
    with driver_lock(hand.folder):
        assert main(words) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "has not taken it yet; if that confirms or ablates, 'icd resume" in said
    assert "runs it after it" in said


def test_the_budget_holds(hand: Hand) -> None:
    for weight in (7, 8, 9):
        asked(hand, f"method.cluster_weight={weight}")
    with pytest.raises(StateError, match=r"used \(3 of 6 trials, and 3 wait\).*search.budget.trials=7"):
        asked(hand, "method.cluster_weight=10")
    assert hand.finish() == [3, 4, 5]  # the sampler was faster than the driver's look
    hand.take()
    assert (waiting(hand), len(hand.states)) == (3, 6)
    hand.ledger.note_study(stopped_by="budget")
    assert search.status("tiny", root=hand.root).state == "finished"
    more = hand.again(**{**PARTS, "budget": {"trials": 8}})
    more.take()
    assert more.finish() == [6, 7]
    assert (waiting(more), [record.start for record in more.ledger.records()[6:]]) == (
        1,
        ["try method.cluster_weight=7", "try method.cluster_weight=8"],
    )


def test_a_request_is_neither_lost_nor_taken_twice(hand: Hand) -> None:
    asked(hand, "method.cluster_weight=8")
    (request,) = sweep_files_of(hand.folder).requests()
    again = hand.again(**PARTS)  # killed before it was taken
    assert again.driver.take(request)
    again = again.again(**PARTS)  # killed before it was forgotten
    again.take()
    assert (waiting(again), len(again.states), again.states.count("running")) == (0, 4, 1)
    assert again.driver.take(request)
    assert len(again.states) == 4


def test_what_is_no_configuration_of_the_sweep_ends_nothing(hand: Hand) -> None:
    folder = hand.folder / "try"
    asked(hand, "method.cluster_weight=8")
    (path,) = folder.iterdir()
    path.write_text(path.read_text().replace('"cluster_weight": 8', '"cluster_weight": -8'))
    (folder / "other.json").write_text("[]")
    hand.take()
    assert any("is no configuration of this sweep" in line for line in hand.said)
    assert ([item.name for item in folder.iterdir()], len(hand.states)) == (["other.json"], 3)


def test_refusals(hand: Hand, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="none is added to them; name the sweep itself: tiny"):
        search.try_trial("tiny/confirm/1", ["method.cluster_weight=8"], root=hand.root)
    for number in (9, -1):
        with pytest.raises(StateError, match=f"no trial {number}"):
            asked(hand, "method.cluster_weight=8", base=number)
    (tmp_path / "empty").mkdir()
    with pytest.raises(StateError, match="--from"):
        asked(Hand(tmp_path / "empty", **PARTS), "method.cluster_weight=8")


@pytest.mark.parametrize(("unit", "said"), [("hours", "hours"), ("gpu_hours", "GPU hours")])
def test_what_is_asked_of_a_sweep_without_time_does_not_wake_it(tmp_path: Path, unit: str, said: str) -> None:
    hand = Hand(tmp_path, gpus=1.0, enqueue=["iCD-KD"], budget={unit: 0.5})
    attempt = hand.driver.next_attempt()
    assert attempt is not None
    hand.train(attempt, seconds=1000.0)
    hand.ledger.note_study(stopped_by="budget", gpus_per_trial=1.0, **({"seconds": 4000.0} if unit == "hours" else {}))
    with pytest.raises(StateError, match=rf"used \(1.11 of 0.5 {said}\).*--set search.budget.{unit}="):
        asked(hand, "method.cluster_weight=8")
    one = [TrialRequest(name="1", label="try", document={}, key="k")]
    assert has_ended(hand.ledger, hand.ledger.records(), one)
    hand.ledger.note_study(seconds=0.0)
    assert has_ended(hand.ledger, hand.ledger.records(), one) == (unit == "gpu_hours")
