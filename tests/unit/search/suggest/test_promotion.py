"""Who waits at a rung, and who may go on: from the top rung down, the best of each first."""

import math

import pytest

from icd.config.sweep import PrunerConfig
from icd.search.core.records import TrialRecord
from icd.search.suggest.promotion import Promotion

PROMOTE = PrunerConfig(name="promote", min_epochs=1, reduction=3)


def paused(promotion: Promotion, values: dict[int, float], epoch: int = 1) -> list[int]:
    """Let trials reach an epoch, one after another, and pause whoever should be; gives those."""
    found = [number for number, value in values.items() if promotion.should_pause(number, epoch, value)]
    for number in found:
        promotion.pause(number, epoch)
    return found


@pytest.mark.parametrize("maximize", [True, False])
def test_the_best_third_of_those_that_ever_came_goes_on(maximize: bool) -> None:
    sign = 1 if maximize else -1
    promotion = Promotion(PROMOTE, maximize=maximize)
    assert paused(promotion, {0: sign * 5.0, 1: sign * 6.0}) == [0, 1], "a third of two is nobody"
    assert promotion.promotable() == []
    assert paused(promotion, {2: sign * 4.0}) == [2]
    assert promotion.promotable() == [1]
    assert paused(promotion, {3: sign * 7.0}) == [], "the best goes on at once"
    assert promotion.promotable() == [], "and takes the place of the one that was the best"
    assert paused(promotion, {4: sign * 1.0, 5: sign * 2.0}) == [4, 5]
    assert promotion.promotable() == [1]
    promotion.thaw(1)
    assert promotion.promotable() == []
    assert promotion.waiting == [0, 2, 4, 5]


def test_the_top_rung_comes_first_and_the_best_of_a_rung() -> None:
    promotion = Promotion(PROMOTE, maximize=True)
    for number in range(9):
        promotion.should_pause(number, 1, 10.0 + number)
        promotion.pause(number, 1)
    assert promotion.promotable() == [8, 7, 6]
    for number in (6, 7, 8):
        promotion.thaw(number)
    assert paused(promotion, {6: 20.0, 7: 22.0, 8: 21.0}, epoch=3) == [6, 7, 8]
    promotion.should_pause(9, 1, 30.0)
    promotion.pause(9, 1)  # an executor may say it late
    assert promotion.promotable() == [7, 9]


def test_of_equal_values_the_earlier_trial_is_better_and_what_is_not_finite_is_worst() -> None:
    promotion = Promotion(PROMOTE, maximize=True)
    assert paused(promotion, {0: math.nan, 1: math.inf, 3: 5.0}) == [0, 1], "3 is the best of three"
    assert paused(promotion, {4: 5.0, 2: 5.0}) == [4], "2 takes the place of 3"
    assert paused(promotion, {5: -math.inf}) == [5]
    assert promotion.promotable() == []


def test_a_trial_is_asked_at_the_first_epoch_of_a_rung_and_never_below_one_that_it_left() -> None:
    promotion = Promotion(PrunerConfig(name="promote", min_epochs=2, reduction=3), maximize=True)
    assert not promotion.should_pause(0, 1, 1.0), "before the first rung nobody is asked"
    assert promotion.should_pause(0, 4, 1.0), "reports come every few epochs"
    assert promotion.should_pause(0, 4, 1.0), "the same epoch again has the same answer"
    promotion.pause(0, 4)
    promotion.thaw(0)
    assert not promotion.should_pause(0, 4, 1.0), "told again by the next attempt"
    assert not promotion.should_pause(0, 5, 0.5)
    assert promotion.should_pause(0, 6, 0.5)


def test_with_another_pruner_nobody_waits() -> None:
    promotion = Promotion(PrunerConfig(name="successive_halving"), maximize=True)
    assert not promotion.should_pause(0, 1, 1.0)
    promotion.restore(TrialRecord(number=1, state="running", curve={1: 2.0}))
    assert (promotion.waiting, promotion.promotable()) == ([], [])


def test_all_of_it_is_read_from_the_ledger_again() -> None:
    records = [
        TrialRecord(number=0, state="paused", curve={1: 5.0}, paused_at=1),
        TrialRecord(number=1, state="complete", curve={1: 9.0, 2: 9.0, 3: 9.0, 4: 9.0}, control=True),
        TrialRecord(number=2, state="pruned", curve={1: 1.0}),
        TrialRecord(number=3, state="failed", curve={1: 99.0}),  # a fault says nothing
        TrialRecord(number=4, state="running", curve={1: 8.0, 2: 8.0}, paused_at=1),
        TrialRecord(number=5, state="paused", curve={1: 6.0}, paused_at=1),
        TrialRecord(number=6, state="paused", paused_at=1),  # its value was not finite
    ]
    promotion = Promotion(PROMOTE, maximize=True)
    for record in records:
        promotion.restore(record)
    assert promotion.waiting == [0, 5, 6]
    assert promotion.promotable() == [], "1 and 4 are the best third of six"
    assert not promotion.should_pause(4, 1, 8.0)
    assert paused(promotion, {7: 0.0, 8: 0.0, 9: 0.0}) == [7, 8, 9]
    assert promotion.promotable() == [5]
