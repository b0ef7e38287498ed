"""The pruning audit, against numbers worked out by hand."""

from collections.abc import Sequence
from typing import Any

import pytest

from icd.results.pruning import PruningAudit, audit_sweep
from icd.search.core.records import State, TrialRecord
from icd.search.foresight import rungs


def record(number: int, curve: Sequence[float], state: State = "complete", **more: Any) -> TrialRecord:
    values = (curve[-1],) if state == "complete" else ()
    return TrialRecord(number=number, state=state, values=values, curve=dict(enumerate(curve, 1)), **more)


# Final values 10, 20, 30, 40, 50; the best quarter of five is two: 40 and 50.
COMPLETE = [
    record(0, [1, 2, 5, 10]),
    record(1, [2, 1, 5, 20]),
    record(2, [3, 3, 5, 30], control=True, would_stop_at=1),
    record(3, [4, 4, 5, 40], control=True, would_stop_at=2),
    record(4, [5, 5, 5, 50], control=True),
]
STOPPED = [
    record(5, [0], "pruned", attributes={"exit_reason": "pruned"}),
    record(6, [0, 0], "pruned", attributes={"exit_reason": "pruned"}),
    record(7, [0], "pruned", attributes={"exit_reason": "diverged"}),  # not the pruner's doing
]
OTHERS = [record(8, [3], "running"), record(9, [], "failed")]


def audited(records: Sequence[TrialRecord], *, min_epochs: int = 1, direction: str = "maximize") -> PruningAudit:
    pruner = {"name": "successive_halving", "min_epochs": min_epochs, "reduction": 2}
    audit = audit_sweep({"pruner": pruner, "objectives": [{"direction": direction}]}, records)
    assert audit is not None
    return audit


def test_audit() -> None:
    audit = audited([*COMPLETE, *STOPPED, *OTHERS])
    assert [(rung.epoch, rung.concordance, rung.pairs) for rung in audit.rungs] == [(1, 1.0, 10), (2, 0.9, 10)]
    assert (audit.controls, audit.would_stop, audit.good_ones) == (3, 2, 1)
    assert audit.false_kill_rate == 0.5
    assert (audit.pruned, audit.epochs_saved) == (2, 3 + 2)
    assert audit.saved_share == pytest.approx(5 / (4 * 7))


def test_a_stopped_trial_saves_what_is_left_of_its_own_epochs() -> None:
    stopped = record(5, [0], "pruned", attributes={"exit_reason": "pruned", "planned_epochs": 3})
    audit = audited([*COMPLETE, record(6, [9]), stopped])
    assert (audit.epochs_saved, audit.saved_share) == (3 - 1, 2 / (5 * 4 + 1 + 3))


def test_dead_terms_without_a_pruner_are_judged_without_rungs() -> None:
    pruner, objectives = {"name": "none", "min_epochs": 1, "reduction": 2}, [{"direction": "maximize"}]
    before = {"pruner": pruner, "objectives": objectives}  # as in a study from before there was the field
    assert audit_sweep(before, COMPLETE) is None
    audit = audit_sweep({**before, "pruner": {**pruner, "dead_terms": True}}, [*COMPLETE, *STOPPED])
    assert audit is not None
    assert (audit.rungs, audit.pruned, audit.would_stop, audit.good_ones) == ((), 2, 2, 1)


def test_smaller_is_better() -> None:
    audit = audited(COMPLETE, direction="minimize")
    assert (audit.would_stop, audit.good_ones, audit.false_kill_rate) == (2, 0, 0.0)


def test_nothing_to_say() -> None:
    audit = audited(COMPLETE[:2])
    assert [(rung.concordance, rung.pairs) for rung in audit.rungs] == [(1.0, 1), (0.0, 1)], "two trials"
    assert (audit.false_kill_rate, audit.saved_share, audit.epochs_saved) == (None, 0.0, 0)


def test_a_rung_between_reports_takes_the_next_report() -> None:
    rows = [TrialRecord(number=n, state="complete", values=(n,), curve={3: -n, 6: n, 9: n}) for n in range(4)]
    audit = audited(rows, min_epochs=2)
    assert [(rung.epoch, rung.concordance) for rung in audit.rungs] == [(2, 0.0), (4, 1.0), (8, None)]


def test_rungs() -> None:
    assert rungs(30, 3, 240) == [30, 90]
    assert rungs(1, 2, 4) == [1, 2]
    assert rungs(5, 2, 5) == []


@pytest.mark.parametrize(("pruner", "records"), [("none", COMPLETE), ("successive_halving", OTHERS)])
def test_no_audit(pruner: str, records: list[TrialRecord]) -> None:
    sweep = {
        "pruner": {"name": pruner, "min_epochs": 1, "reduction": 2},
        "objectives": [{"metric": "val/top1", "direction": "maximize"}],
    }
    assert audit_sweep(sweep, records) is None
    if pruner == "none":
        sweep["pruner"] = {**sweep["pruner"], "name": "median"}  # type: ignore[dict-item]
        assert audit_sweep(sweep, records) is not None
