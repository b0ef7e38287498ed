"""A race before a confirmation: two further seeds on validation images choose the finalists."""

from pathlib import Path

import pytest

from icd.errors import StateError
from icd.results.confirm import RACE_SEEDS, in_race_order, make_plan, race_plan
from icd.results.plan import begin_plan
from icd.search.controller.controller import SweepController
from icd.search.suggest.list_source import ListSource, measured
from tests.confirming import Confirming, searched


class Racing(Confirming):
    """A driver of a race of three trials."""

    part = "val"

    def drive(self) -> SweepController:
        self.plan = begin_plan(self.ledger, race_plan(self.ledger, self.sweep, 3), anew=False)
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
    assert begin_plan(hand.ledger, race_plan(hand.ledger, hand.sweep, 3), anew=False) == hand.plan


def test_a_trial_that_broke_in_the_race_is_no_finalist(tmp_path: Path) -> None:
    hand = racing(tmp_path)
    for _ in range(3 * RACE_SEEDS):
        attempt = hand.driver.next_attempt()
        assert attempt is not None
        if hand.record(attempt).attributes["arm"] == "trial 3":
            hand.ledger.tell(attempt.number, "failed", reason="KeyError: 'x'")
        else:
            hand.run(attempt, lambda arm, seed: 50.0)
    order = in_race_order(hand.ledger, hand.ledger.records(), 3)
    assert {record.number for record in order} == {1, 2}


def test_finalists_of_a_race_need_one(tmp_path: Path) -> None:
    hand = searched(tmp_path)
    with pytest.raises(StateError, match="no race of 3 trials"):
        make_plan(hand.ledger, hand.sweep, top=2, seeds=3, race=3)
