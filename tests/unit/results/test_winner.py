"""Which run is exported, and what is claimed of it."""

from dataclasses import replace
from typing import Any

import pytest

from icd.errors import IcdError, StateError, UsageError
from icd.results.winner import NOT_CONFIRMED, Winner, choose, claims
from icd.search.record import TrialRecord
from tests.confirmed import confirmation

TOP1 = [{"metric": "val/top1", "direction": "maximize"}]
RECORDS = [
    TrialRecord(number=0, state="complete", values=[60.0], key="k0", baseline="KD"),
    TrialRecord(number=1, state="complete", values=[61.5], key="k1"),
    TrialRecord(number=2, state="pruned", reason="pruned at epoch 2"),
    TrialRecord(number=39, state="complete", values=[55.0], key="k39"),
]
CONFIRMED = [TrialRecord(number=40, state="complete", stage="confirm", key="k40", attributes={"device": "cpu"})]


def chosen(**options: Any) -> Winner:
    words = {"records": RECORDS, "objectives": TOP1, "confirmation": confirmation(), "confirmed": CONFIRMED, **options}
    return choose("by-hand", **words)


def test_the_lowest_seed_of_the_winner_not_its_best() -> None:
    winner = chosen()
    assert (winner.trial, winner.label, winner.values) == (40, "trial 12", {"test/top1": 60.5})
    assert (winner.key, winner.attributes) == ("k40", {"device": "cpu"})
    assert winner.arm is not None
    assert winner.arm.mean == 61.75
    assert [item.baseline for item in winner.versus] == ["KD"]


def test_another_finalist() -> None:
    assert chosen(trial=3).trial == 42
    assert chosen(trial=3).key is None  # the study does not say; its folder does


def test_unconfirmed_is_the_search_trial_itself() -> None:
    for known in (None, confirmation()):
        winner = chosen(unconfirmed=True, confirmation=known, records=RECORDS[:3])
        assert (winner.trial, winner.key, winner.values, winner.arm) == (1, "k1", {"val/top1": 61.5}, None)
    assert chosen(unconfirmed=True, trial=0).baseline == "KD"


@pytest.mark.parametrize(
    ("options", "kind", "rule"),
    [
        ({"confirmation": None}, StateError, "run 'icd confirm by-hand', or add --unconfirmed"),
        (
            {"confirmation": confirmation(finished=False)},
            StateError,
            "not finished; go on with 'icd confirm by-hand'",
        ),
        ({"confirmation": confirmation(winner=None)}, StateError, "names no winner"),
        ({"confirmation": confirmation(arms=confirmation().arms[2:])}, StateError, "no finalist"),
        ({"trial": 1}, StateError, "finalists are 12, 3, or add --unconfirmed"),
        ({"unconfirmed": True, "trial": 2}, StateError, "pruned (pruned at epoch 2)"),
        ({"unconfirmed": True, "trial": 9}, StateError, "no trial 9"),
        (
            {"unconfirmed": True, "records": RECORDS[2:3]},
            StateError,
            "no trial of sweep 'by-hand' has run",
        ),
        ({"unconfirmed": True, "objectives": TOP1 * 2, "records": []}, UsageError, "none beats: none yet"),
    ],
    ids=["never", "open", "no-winner", "no-runs", "other", "pruned", "unknown", "none", "several"],
)
def test_refused(options: dict[str, Any], kind: type[IcdError], rule: str) -> None:
    with pytest.raises(kind) as caught:
        chosen(**options)
    assert rule in str(caught.value)


def test_claims() -> None:
    assert claims(chosen(unconfirmed=True, records=RECORDS[:3])) == {"val/top1": "61.5", "status": NOT_CONFIRMED}
    said = claims(chosen())
    assert said["status"] == "trial 12 is better than KD by 0.75 points."
    assert said["test/top1 mean"] == "61.750 (sd 0.250, n 2)"
    assert said["versus KD"] == "+0.750 [+0.125, +1.375] (95 %), n 2, p 0.04 (Holm), better"
    alone = claims(replace(chosen(trial=3)))
    assert alone["test/top1 mean"] == "60.000 (n 1)"
