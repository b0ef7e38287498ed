"""What ten more trials are worth, against all choices of ten, and as the end of a sweep."""

import itertools
import random
from pathlib import Path
from typing import Any

import pytest

from icd import search
from icd.config.sweep import Budget
from icd.search.controller.budget import BudgetTracker
from icd.search.core.expected_gain import AHEAD, LEAST, expected_gain, gain_of
from icd.search.core.records import State, TrialRecord
from tests.driving import Hand


def records(values: list[float], state: State = "complete") -> list[TrialRecord]:
    return [TrialRecord(number=n, state=state, values=(value,)) for n, value in enumerate(values)]


def test_it_is_the_mean_fall_of_the_best_over_all_choices_of_ten() -> None:
    values = [random.Random(3).gauss(70, 2) for _ in range(20)]
    best = max(values)
    falls = [best - max(set(values) - set(ten)) for ten in itertools.combinations(values, AHEAD)]
    found = gain_of(values)
    assert found is not None
    assert found.mean == pytest.approx(sum(falls) / len(falls))
    assert sum(fall > found.high + 1e-9 for fall in falls) / len(falls) <= 0.05
    assert sum(fall < found.low for fall in falls) == 0


def test_trials_that_did_not_end_whole_count_as_no_gain() -> None:
    values = [float(n) for n in range(LEAST)]
    whole = expected_gain(records(values), maximize=True)
    assert expected_gain(records([-value for value in values]), maximize=False) == whole
    assert expected_gain(records(values[:-1]), maximize=True) is None
    more = records(values) + [TrialRecord(number=20 + n, state="pruned") for n in range(20)]
    diluted = expected_gain(more, maximize=True)
    assert whole is not None
    assert diluted is not None
    assert diluted.mean < whole.mean
    assert expected_gain([*records(values), *records(values, "failed")], maximize=True) == whole
    assert expected_gain([TrialRecord(number=n, state="pruned") for n in range(30)], maximize=True) is None


def test_a_sweep_ends_when_it_pays_no_more_and_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ICD_STORAGE_URL", raising=False)
    parts: dict[str, Any] = {"budget": {"trials": 60, "min_gain": 0.5}}
    hand = Hand(tmp_path, **parts)
    numbers = hand.finish(lambda number, epoch: 50.0 + min(number, 15))  # a plateau of equal ones from there on
    assert (LEAST <= len(numbers) < 60, hand.driver.stopped_by) == (True, "min_gain")
    hand.ledger.note_study(stopped_by=hand.driver.stopped_by)
    status = search.status("tiny", root=tmp_path)
    assert status.state == "finished"
    assert status.expected_gain is not None
    assert status.expected_gain.mean < 0.5
    again = hand.again(**parts)  # another driver knows it too
    assert again.finish() == []
    assert again.driver.stopped_by == "min_gain"


def test_a_better_trial_lets_it_go_on() -> None:
    tracker = BudgetTracker(Budget(min_gain=1.0), 0.0, 0.0, maximize=True)
    for record in records([50.0] * LEAST):
        tracker.ended(record)
    assert not tracker.pays
    tracker.ended(TrialRecord(number=LEAST, state="complete", values=(60.0,)))
    assert tracker.pays
