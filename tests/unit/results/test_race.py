"""A race before a confirmation: two further seeds on validation images choose the finalists."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from icd.errors import StateError, TrialsFailedError, UsageError
from icd.results import confirm
from icd.results import run_plan as runner
from icd.results.confirm import RACE_SEEDS, begin_race, in_race_order, make_plan
from icd.results.plan import begin_plan, stored_plans
from icd.search.controller.controller import SweepController
from icd.search.run_list import StageResult
from icd.search.settings import Settings
from icd.search.suggest.list_source import ListSource, measured
from tests.confirming import Confirming, searched


class Racing(Confirming):
    """A driver of a race of three trials."""

    part = "val"

    def drive(self) -> SweepController:
        self.plan = begin_race(self.ledger, self.sweep, 3)
        sweep = measured(self.sweep, self.plan.objective)
        self.ledger.drive()
        return self.driver_of(sweep, ListSource(self.plan, self.ledger, self.prepared))


def racing(root: Path) -> Racing:
    hand = searched(root)  # trials 0 to 3 reach 50 to 53
    hand.close()
    return Racing(root, **hand.changes)


def test_two_further_seeds_choose_the_finalists(tmp_path: Path) -> None:
    hand = racing(tmp_path)
    assert (hand.plan.train_on, hand.plan.measure_on, len(hand.plan.seeds)) == ("train", "val", 2)
    again = {"trial 3": 40.0, "trial 2": 45.0, "trial 1": 58.0}
    names = hand.finish_all(lambda arm, seed: again[arm])
    assert sorted(names) == sorted(f"{arm} seed {seed}" for arm in again for seed in hand.plan.seeds)
    plan = make_plan(hand.ledger, hand.sweep, top=2, seeds=3, race=3)
    assert [(arm.label, arm.search_value) for arm in plan.arms[:2]] == [("trial 1", 51.0), ("trial 2", 52.0)]
    assert plan.raced == 3
    assert not {*plan.seeds} & {*hand.plan.seeds}, "the race's seeds are not used again"
    assert begin_race(hand.ledger, hand.sweep, 3) == hand.plan


def test_a_trial_that_broke_in_the_race_is_no_finalist_or_the_last(tmp_path: Path) -> None:
    hand = racing(tmp_path)
    for _ in range(3 * RACE_SEEDS):
        attempt = hand.driver.next_attempt()
        assert attempt is not None
        arm, seed = (hand.record(attempt).attributes[name] for name in ("arm", "seed"))
        if arm == "trial 3" or (arm == "trial 2" and seed == hand.plan.seeds[1]):
            hand.ledger.tell(attempt.number, "failed", reason="KeyError: 'x'")
        else:
            hand.run(attempt, lambda arm, seed: 90.0 if arm == "trial 2" else 50.0)
    order = in_race_order(hand.ledger, hand.ledger.records(), 3)
    assert [record.number for record in order] == [1, 2], "its other run is better, but one broke"


def test_a_value_of_zero_is_a_value(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hand = racing(tmp_path)
    hand.finish_all(lambda arm, seed: 2.0 if arm == "trial 1" else 1.0)
    arms = tuple(replace(arm, search_value=0.0 if arm.trial == 1 else 3.0) for arm in hand.plan.arms)
    monkeypatch.setattr(confirm, "last_race", lambda ledger, count: replace(hand.plan, arms=arms))
    order = in_race_order(hand.ledger, hand.ledger.records(), 3)
    assert [record.number for record in order][-1] == 1, "(2 + 2 + 0) / 3 is less than (1 + 1 + 3) / 3"


def test_finalists_of_a_race_need_one(tmp_path: Path) -> None:
    hand = searched(tmp_path)
    with pytest.raises(StateError, match="no race of 3 trials"):
        make_plan(hand.ledger, hand.sweep, top=2, seeds=3, race=3)


def raced(root: Path) -> Racing:
    """Race three trials, and begin a confirmation with that."""
    hand = racing(root)
    hand.finish_all(lambda arm, seed: 50.0)
    begin_plan(hand.ledger, make_plan(hand.ledger, hand.sweep, top=1, seeds=2, race=3))
    return hand


def test_another_race_is_begun_anew_or_with_the_runs_that_are_there(tmp_path: Path) -> None:
    hand = raced(tmp_path)
    with pytest.raises(StateError, match="arms: trial 1 dropped; raced: 3 -> 2"):
        begin_race(hand.ledger, hand.sweep, 2)
    kept = begin_race(hand.ledger, hand.sweep, 2, keep_seeds=True)
    assert (kept.round, kept.raced, kept.seeds, len(kept.reused)) == (2, 2, hand.plan.seeds, 4)
    assert make_plan(hand.ledger, hand.sweep, top=1, seeds=2, race=2).race_round == 2
    anew = begin_race(hand.ledger, hand.sweep, 3, anew=True)
    assert (anew.round, anew.reused) == (3, ())
    assert not {*anew.seeds} & {*hand.plan.seeds}


@pytest.mark.parametrize("another", ["anew", "keep_seeds"])
def test_a_race_that_was_cut_off_before_its_confirmation_is_not_begun_again(tmp_path: Path, another: str) -> None:
    hand = raced(tmp_path)
    second = begin_race(hand.ledger, hand.sweep, 3, **{another: True})
    assert second.round == 2
    assert begin_race(hand.ledger, hand.sweep, 3, **{another: True}) == second, "the same command goes on with it"
    (first,) = stored_plans(hand.ledger, "confirm")
    begin_plan(hand.ledger, replace(first, race_round=2), anew=True)
    assert begin_race(hand.ledger, hand.sweep, 3, **{another: True}).round == 3


@pytest.mark.parametrize(
    ("stopped_by", "kind", "said"),
    [("stop", StateError, "the same command goes on with it"), ("failures", TrialsFailedError, "all failed")],
)
def test_a_race_that_ends_early_is_no_race(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stopped_by: str, kind: type[Exception], said: str
) -> None:
    hand = raced(tmp_path)
    asked: list[bool] = []

    def run_stage(name: str, listed_of: Any, *args: Any) -> StageResult:
        asked.append(listed_of(hand.ledger, hand.sweep).round == 2)
        return StageResult(stopped_by, 0)

    monkeypatch.setattr(runner, "run_stage", run_stage)
    with pytest.raises(kind, match=said):
        runner.run_plan("confirm", "tiny", Settings(root=tmp_path), race=3, anew=True)
    assert asked == [True]
    assert len(stored_plans(hand.ledger, "confirm")) == 1


def test_another_round_has_seeds_of_its_own_or_those_of_the_last(tmp_path: Path) -> None:
    raced(tmp_path).close()
    with pytest.raises(UsageError, match="take --anew or --keep-seeds"):
        runner.run_plan("confirm", "tiny", Settings(root=tmp_path), anew=True, keep_seeds=True)
