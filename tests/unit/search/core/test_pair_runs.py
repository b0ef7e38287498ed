"""Trials of several runs: ranks, the sampler's view, folders, what a driver gives out and what it tells."""

from pathlib import Path
from typing import Any

from icd.search.core.attempts import Attempt, trial_folder
from icd.search.core.ranks import ranks_of_trials
from icd.search.core.records import TrialRecord, best, in_order
from icd.training import checkpoints
from tests.driving import EPOCHS, Hand, Value

PAIRS = [{"teacher": "resnet20", "student": "resnet8"}, {"teacher": "resnet20", "student": "resnet14"}]
SMALL, LARGE = "resnet20-resnet8", "resnet20-resnet14"
GENERALIST: dict[str, Any] = {"teacher": None, "student": None, "pairs": PAIRS, "budget": {"trials": 3}}
# By trial: good on average, but not on both; good on both; poor.
REACHED = {0: {SMALL: 90.0, LARGE: 10.0}, 1: {SMALL: 40.0, LARGE: 30.0}, 2: {SMALL: 20.0, LARGE: 20.0}}


def hand(root: Path, **changes: Any) -> Hand:
    return Hand(root, **{**GENERALIST, **changes})


def run(by: Hand, attempt: Attempt | None) -> Attempt:
    assert attempt is not None
    by.train(attempt, reached)
    return attempt


def reached(number: int, epoch: int) -> float:
    """Give the value of an epoch, the last one of each run as in ``REACHED``."""
    return REACHED[number][SMALL if epoch <= EPOCHS else LARGE] - EPOCHS + (epoch - 1) % EPOCHS + 1


def test_ranks_do_not_ask_how_far_apart_values_are() -> None:
    assert ranks_of_trials(REACHED, "mean", "maximize") == {0: 2.0, 1: 1.5, 2: 2.5}
    assert ranks_of_trials(REACHED, "worst", "maximize") == {0: 3.0, 1: 2.0, 2: 3.0}
    assert ranks_of_trials(REACHED, "mean", "minimize") == {0: 2.0, 1: 2.5, 2: 1.5}
    assert ranks_of_trials({}, "mean", "maximize") == {}


def test_the_best_is_the_first_by_rank_then_by_value() -> None:
    def record(number: int, rank: float | None, value: float) -> TrialRecord:
        return TrialRecord(number=number, state="complete", values=(value,), rank=rank)

    ranked = [record(0, 2.0, 90.0), record(1, 1.5, 30.0), record(2, 1.5, 40.0)]
    assert [item.number for item in in_order(ranked, maximize=True)] == [2, 1, 0]
    assert [item.number for item in in_order(ranked, maximize=False)] == [1, 2, 0]
    plain = [record(0, None, 1.0), record(1, None, 2.0), record(2, None, 2.0)]
    found = best(plain, maximize=True)
    assert found is not None
    assert found.number == 1


def test_a_run_has_a_folder_below_its_trials() -> None:
    assert trial_folder(Path("x"), 3, "a-b") == Path("x/trials/0003/a-b")
    assert trial_folder(Path("x"), 3) == Path("x/trials/0003")


def test_the_runs_of_a_trial_are_one_attempt(tmp_path: Path) -> None:
    driven = hand(tmp_path)
    attempts = [run(driven, driven.driver.next_attempt()) for _ in range(3)]
    assert [(attempt.number, attempt.attempt, list(attempt.runs)) for attempt in attempts] == [
        (n, 1, [SMALL, LARGE]) for n in range(3)
    ]
    assert driven.driver.next_attempt() is None
    assert driven.driver.done
    found = driven.stored()
    assert [record.state for record in found] == ["complete"] * 3
    assert [record.members for record in found] == [REACHED[number] for number in range(3)]
    assert [record.values for record in found] == [(50.0,), (35.0,), (20.0,)]
    assert [record.rank for record in found] == [2.0, 1.5, 2.5]
    assert sorted(found[0].curve) == list(range(1, 2 * EPOCHS + 1))
    assert found[0].attributes["seconds"] == 2 * EPOCHS * 10.0
    first = best(found, maximize=True)
    assert first is not None
    assert first.number == 1  # trial 0 has the higher mean
    assert [row.step for key, row in driven.tracker.epochs if key == "0000"] == list(range(1, 2 * EPOCHS + 1))
    assert f"{LARGE}/val/top1" in driven.tracker.epochs[EPOCHS][1].metrics
    end = next(view for view in driven.ends if view.key == "0000")
    assert [row.step for row in end.rows] == list(range(1, 2 * EPOCHS + 1))
    assert end.totals is not None
    assert end.totals.metrics == {
        "final/val/top1": 50.0,
        f"final/{SMALL}/val/top1": 90.0,
        f"final/{LARGE}/val/top1": 10.0,
        "val/top1": 50.0,
    }


def test_a_sampler_sees_ranks_as_they_are_now(tmp_path: Path) -> None:
    driven = hand(tmp_path)

    def seen() -> list[float]:
        trials = driven.ledger.by_rank(driven.ledger.study.get_trials(deepcopy=False))
        return [trial.value for trial in trials if trial.value is not None]

    for _ in range(2):
        run(driven, driven.driver.next_attempt())
    assert seen() == [-1.5, -1.5]
    run(driven, driven.driver.next_attempt())
    assert seen() == [-2.0, -1.5, -2.5]  # larger is better, as the objective is
    assert [trial.value for trial in driven.ledger.study.get_trials()] == [50.0, 35.0, 20.0]


def test_another_driver_goes_on_with_the_run_that_was_under_way(tmp_path: Path) -> None:
    driven = hand(tmp_path)
    attempt = driven.driver.next_attempt()
    assert attempt is not None
    for epoch in range(1, EPOCHS + 2):
        driven.epoch(attempt, epoch, 7.0)
    (attempt.folder / LARGE / "checkpoints").mkdir()
    checkpoints.save_epoch(attempt.folder / LARGE / "checkpoints", 1, {})
    again = driven.again(**GENERALIST)
    attempt = again.driver.next_attempt()
    assert attempt is not None
    assert (attempt.number, attempt.attempt) == (0, 2)
    assert (attempt.folder / "attempt").read_text() == "2"
    again.end(attempt, "killed", "its process died")
    assert again.said[-1].endswith(f"retry 1/3 from epoch {EPOCHS + 1}")


def test_a_run_that_diverged_or_failed_ends_the_trial(tmp_path: Path) -> None:
    driven = hand(tmp_path)
    attempt = driven.driver.next_attempt()
    assert attempt is not None
    for epoch in range(1, EPOCHS + 2):
        driven.epoch(attempt, epoch, 5.0)
    driven.end(attempt, "diverged", "loss is nan")
    attempt = driven.driver.next_attempt()
    assert attempt is not None
    driven.end(attempt, "error", "ValueError: no")
    pruned, failed = driven.ledger.records()
    assert (pruned.state, pruned.attributes["exit_reason"], pruned.members, pruned.rank) == (
        "pruned",
        "diverged",
        {},
        None,
    )
    assert failed.state == "failed"


def constant(small: float, large: float) -> Value:
    """Give a curve for each pair that does not change."""
    return lambda number, epoch: small if epoch <= EPOCHS else large


def test_a_sampler_learns_from_ranks_alone(tmp_path: Path) -> None:
    def proposals(name: str, scales: dict[str, float]) -> tuple[list[Any], list[float]]:
        (tmp_path / name).mkdir()
        driven = hand(tmp_path / name, sampler={"name": "gp", "startup_trials": 2}, budget={"trials": 5})
        while (attempt := driven.driver.next_attempt()) is not None:
            small, large = scales[SMALL] * (attempt.number * 3 % 7), scales[LARGE] * (attempt.number * 5 % 7)
            driven.train(attempt, constant(small, large))
        found = driven.stored()
        return [record.params for record in found], [record.values[0] for record in found]

    params, values = proposals("one", {SMALL: 1.0, LARGE: 1.0})
    others, other_values = proposals("other", {SMALL: 0.01, LARGE: 10.0})  # the same ranks, another order of means
    assert params == others
    assert sorted(range(5), key=values.__getitem__) != sorted(range(5), key=other_values.__getitem__)
