"""Which run is exported, and what is claimed of it."""

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from icd.errors import IcdError, StateError, UsageError
from icd.results.exports import winner
from icd.results.exports.winner import NOT_CONFIRMED, SIMPLEST, Winner, choose
from icd.results.outcome import WHOLE, Arm, Comparison, Outcome
from icd.search.core.records import TrialRecord
from icd.search.core.roots import root_of
from tests.confirmed import confirmation, run

TOP1 = [{"metric": "val/top1", "direction": "maximize"}]
RECORDS = [
    TrialRecord(number=0, state="complete", values=[60.0], key="k0", baseline="KD"),
    TrialRecord(number=1, state="complete", values=[61.5], key="k1"),
    TrialRecord(number=2, state="pruned", reason="pruned at epoch 2"),
    TrialRecord(number=39, state="complete", values=[55.0], key="k39"),
]
CONFIRMATION = confirmation()
CONFIRMED = [
    TrialRecord(number=number, state="complete", stage="confirm", key=f"k{number}", attributes={"device": "cpu"})
    for number in (40, 41, 42)
]


@pytest.fixture(autouse=True)
def no_other_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ICD_ROOT", raising=False)


def chosen(
    *,
    confirmation: Outcome | None = CONFIRMATION,
    ablation: Outcome | None = None,
    records: list[TrialRecord] = RECORDS,
    objectives: list[dict[str, str]] = TOP1,
    **options: Any,
) -> Winner:
    """Choose from what a study would say."""
    known = {record.number: record for record in (*CONFIRMED, *ABLATED)}
    ledger: Any = SimpleNamespace(name="by-hand", records=lambda stage: records, record=known.__getitem__)
    outcomes = {"confirm": confirmation, "ablate": ablation}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(winner, "outcome_of", lambda ledger, stage: outcomes[stage])
        patch.setattr(winner, "plain_sweep", lambda ledger: {"objectives": objectives})
        return choose(ledger, root_of(), **options)


def test_the_lowest_seed_of_the_winner_not_its_best() -> None:
    winner = chosen()
    assert (winner.record.number, winner.label, winner.values) == (40, "trial 12", {"test/top1": 60.5})
    assert winner.record == CONFIRMED[0]
    assert winner.arm is not None
    assert winner.arm.mean == 61.75


def test_another_finalist() -> None:
    assert chosen(trial=3).record.number == 42


def test_unconfirmed_is_the_search_trial_itself() -> None:
    for known in (None, confirmation()):
        winner = chosen(unconfirmed=True, confirmation=known, records=RECORDS[:3])
        assert (winner.record, winner.values, winner.arm) == (RECORDS[1], {"val/top1": 61.5}, None)
    assert chosen(unconfirmed=True, trial=0).record.baseline == "KD"


@pytest.mark.parametrize(
    ("options", "kind", "rule"),
    [
        ({"confirmation": None}, StateError, "run 'icd confirm by-hand', or add --unconfirmed"),
        (
            {"confirmation": confirmation(finished=False)},
            StateError,
            "not finished; go on with 'icd confirm by-hand'",
        ),
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
    ids=["never", "open", "no-runs", "other", "pruned", "unknown", "none", "several"],
)
def test_refused(options: dict[str, Any], kind: type[IcdError], rule: str) -> None:
    with pytest.raises(kind) as caught:
        chosen(**options)
    assert rule in str(caught.value)


def test_how_far_its_numbers_can_be_trusted() -> None:
    assert chosen(unconfirmed=True).status == NOT_CONFIRMED
    assert chosen().status == "trial 12 is better than KD by 0.75 points."
    other = chosen(trial=3).status
    assert other.startswith("Not the winner, which is trial 12. Trial 3 is better than KD. trial 3 reaches 60.00 %")
    assert "was chosen as the best" not in other


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
            runs=(run(62, 106, 60.0), run(63, 105, 59.0), run(64, 107, 63.7)),
        ),
        Arm(label=WHOLE, kind="baseline", parts=3, mean=61.0),
    ),
    comparisons=(PART,), simplest="cluster weight 0", simplest_error=0.2, finished=True, statement="...",
)  # fmt: skip
ABLATED = [TrialRecord(number=number, state="complete", stage="ablate", key=f"k{number}") for number in (62, 63, 64)]


def test_the_simplest_is_the_lowest_seed_of_its_arm() -> None:
    winner = chosen(simplest=True, ablation=ABLATION)
    assert (winner.record.number, winner.record.key, winner.values) == (63, "k63", {"val/top1": 59.0})
    assert (winner.label, winner.confirmation, winner.searched) == ("trial 12, cluster weight 0", None, 3)
    assert (winner.status, winner.ablation) == (SIMPLEST, ABLATION)


def test_where_nothing_is_simpler_the_confirmed_run_is_taken() -> None:
    assert chosen(simplest=True, ablation=replace(ABLATION, simplest=WHOLE)) == chosen()
    with pytest.raises(StateError) as caught:
        chosen(simplest=True, ablation=replace(ABLATION, simplest=WHOLE, trial=1))
    assert "trial 1 of 'by-hand' is not confirmed" in str(caught.value)
    assert "or replace --simplest by --trial 1 --unconfirmed" in str(caught.value)


@pytest.mark.parametrize("known", [None, confirmation(finished=False)])
def test_the_way_out_of_the_simplest_goes_without_it(known: Outcome | None) -> None:
    """``--simplest --unconfirmed`` is refused."""
    with pytest.raises(StateError) as caught:
        chosen(simplest=True, confirmation=known, ablation=replace(ABLATION, simplest=WHOLE))
    assert "or replace --simplest by --trial 12 --unconfirmed" in str(caught.value)
    assert "add --unconfirmed" not in str(caught.value)


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
        chosen(simplest=True, ablation=ablation)
    assert rule in str(caught.value)
    assert "run 'icd ablate by-hand'" in str(caught.value)
