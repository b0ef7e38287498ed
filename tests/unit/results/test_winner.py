"""Which run is exported, and what is claimed of it."""

from dataclasses import replace
from typing import Any

import pytest

from icd.errors import IcdError, StateError, UsageError
from icd.results.exports.winner import NOT_CONFIRMED, SIMPLEST, Winner, choose, choose_simplest, claims
from icd.results.outcome import WHOLE, Arm, Comparison, Outcome
from icd.search.core.records import State, TrialRecord
from tests.confirmed import confirmation, run

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
    assert [item.against for item in winner.comparisons] == ["KD"]


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
    assert said["versus KD"] == "better: +0.75 points, interval +0.12 to +1.38, 2 seeds, p 0.04"
    alone = claims(replace(chosen(trial=3)))
    assert alone["test/top1 mean"] == "60.000 (n 1)"


# The simplest

PART = Comparison(
    arm="cluster weight 0", against=WHOLE, seeds=3, difference=-0.1, low=-0.7, high=0.5, p=1.0, detectable=0.8,
    verdict="no difference shown",
)  # fmt: skip
ABLATION = Outcome(
    sweep="by-hand", stage="ablate", trial=12, round=2, metric="val/top1", train_on="train", planned_seeds=5,
    alpha=0.05, failed_runs="left-out", test_evaluations=0, seconds=1.0,
    arms=(
        Arm(
            label="cluster weight 0", kind="finalist", parts=2, mean=60.9,
            runs=tuple(run(60 + place, 105 + place, 60.9) for place in range(3)),
        ),
        Arm(label=WHOLE, kind="baseline", parts=3, mean=61.0),
    ),
    comparisons=(PART,), simplest="cluster weight 0", simplest_error=0.2, finished=True, statement="...",
)  # fmt: skip
RUNS: list[tuple[int, State, str, int, int, float]] = [
    (50, "complete", "cluster weight 0", 103, 1, 70.0),
    (60, "pruned", "cluster weight 0", 104, 2, 0.0),
    (61, "complete", WHOLE, 105, 2, 61.0),
    (62, "complete", "cluster weight 0", 106, 2, 60.0),
    (63, "complete", "cluster weight 0", 105, 2, 59.0),
]
ABLATED = [
    TrialRecord(
        number=number, state=state, stage="ablate", values=[value] if state == "complete" else [], key=f"k{number}",
        attributes={"arm": arm, "seed": seed, "round": round_},
    )
    for number, state, arm, seed, round_, value in RUNS
]  # fmt: skip


def simplest(ablation: Outcome | None) -> Winner:
    return choose_simplest("by-hand", RECORDS, ablation, ABLATED, lambda trial: chosen(trial=trial))


def test_the_simplest_is_the_lowest_seed_of_its_arm() -> None:
    winner = simplest(ABLATION)
    assert (winner.trial, winner.key, winner.values) == (63, "k63", {"val/top1": 59.0})
    assert (winner.label, winner.confirmation, winner.searched) == ("trial 12, cluster weight 0", None, 3)
    assert claims(winner) == {
        "val/top1": "59",
        "status": SIMPLEST,
        "changed": "trial 12, cluster weight 0",
        "parts": "2 instead of 3",
        "val/top1 mean": "60.900 (n 3)",
        "versus the whole configuration": "no difference shown: -0.10 points, interval -0.70 to +0.50, 3 seeds, p 1, "
        "0.80 points would have been shown in four of five cases",
    }


def test_where_nothing_is_simpler_the_confirmed_run_is_taken() -> None:
    winner = simplest(replace(ABLATION, simplest=WHOLE))
    assert winner == chosen()
    with pytest.raises(StateError) as caught:
        simplest(replace(ABLATION, simplest=WHOLE, trial=1))
    assert "trial 1 of 'by-hand' is not confirmed" in str(caught.value)


@pytest.mark.parametrize(
    ("ablation", "rule"),
    [
        (None, "has no ablation"),
        (replace(ABLATION, finished=False), "has an ablation that is not finished"),
        (replace(ABLATION, simplest=None), "not finished"),
    ],
    ids=["never", "open", "no-runs"],
)
def test_the_simplest_needs_an_ablation(ablation: Outcome | None, rule: str) -> None:
    with pytest.raises(StateError) as caught:
        simplest(ablation)
    assert rule in str(caught.value)
    assert "run 'icd ablate by-hand'" in str(caught.value)
