"""What ten more trials are worth, against all choices of ten, and as the end of a sweep."""

import math
import random
from pathlib import Path
from typing import Any

import pytest

from icd import search
from icd.cli.format import status_lines
from icd.config.sweep import Budget
from icd.search.controller.budget import BudgetTracker
from icd.search.core.expected_gain import AHEAD, LEAST, expected_gain, gain_of
from icd.search.core.records import State, TrialRecord
from tests.driving import Hand


def records(values: list[float], state: State = "complete") -> list[TrialRecord]:
    return [TrialRecord(number=n, state=state, values=(value,)) for n, value in enumerate(values)]


@pytest.mark.parametrize(("count", "estimated"), [(20, 0.069), (70, 0.033)])
def test_it_is_what_draws_of_an_exponential_tail_gain(count: int, estimated: float) -> None:
    """More than ``high`` is gained in one case of forty where the tail is known; it is estimated from few values."""
    chance, draws, got, means, above, known = random.Random(3), 20000, 0.0, 0.0, 0, 0
    for _ in range(draws):
        values = [chance.expovariate(0.5) for _ in range(count)]
        found = gain_of(values)
        assert found is not None
        true = max(0.0, *(chance.expovariate(0.5) for _ in range(AHEAD)), max(values)) - max(values)
        got, means, above = got + true / draws, means + found.mean / draws, above + (true > found.high)
        known += true > found.high / found.mean * 2 * math.log1p(AHEAD / count)
    assert (means, got) == pytest.approx((2 * math.log1p(AHEAD / count),) * 2, rel=0.03)
    assert known / draws == pytest.approx(1 / 40, abs=0.003)
    assert above / draws == pytest.approx(estimated, abs=0.005)


def test_pruned_trials_count_as_some_that_were_not_among_the_best() -> None:
    values = [float(n) for n in range(LEAST)]
    whole = expected_gain(records(values), maximize=True)
    assert expected_gain(records([-value for value in values]), maximize=False) == whole
    assert expected_gain(records(values[:-1]), maximize=True) is None
    more = records(values) + [TrialRecord(number=20 + n, state="pruned") for n in range(20)]
    both = whole, expected_gain(more, maximize=True)
    means = [found.mean if found else None for found in both]
    assert means == pytest.approx([3 * math.log(1.5), 5.5 * math.log(1.25)])  # best 5 over the sixth, 10 over the next
    assert expected_gain([*records(values), *records(values, "failed")], maximize=True) == whole
    assert expected_gain([TrialRecord(number=n, state="pruned") for n in range(30)], maximize=True) is None


def test_after_many_trials_the_upper_end_is_the_expected_gain() -> None:
    found = gain_of([float(n) for n in range(500)])
    assert found is not None
    assert found.high == found.mean > 0


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
    assert "10 more trials: the best val/top1 of one seed is expected to be" in "\n".join(status_lines(status, []))
    again = hand.again(**parts)  # another driver knows it too
    assert again.finish() == []
    assert again.driver.stopped_by == "min_gain"


def test_a_better_trial_lets_it_go_on() -> None:
    tracker = BudgetTracker(Budget(min_gain=1.0), 0.0, 0.0, maximize=True)
    for record in records([50.0] * LEAST):
        tracker.ended(record)
    assert not tracker.pays
    tracker.ended(TrialRecord(number=LEAST, state="complete", values=(80.0,)))
    assert tracker.pays
