"""Which run of a sweep is exported: a confirmed winner's, on request the simplest, or a trial as searched."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from icd.errors import StateError, UsageError
from icd.results.outcome import WHOLE, Arm, Outcome
from icd.results.read_outcome import outcome_of, statement_of
from icd.search.core.records import TrialRecord, best, pareto_front
from icd.search.study.ledger import Ledger
from icd.search.study.sweep_index import pasted
from icd.search.sweep_status import plain_sweep, records_of

NOT_CONFIRMED = "not confirmed: one seed, validation images"
SIMPLEST = (
    "the simplest configuration within one standard error of the best on validation images, trained on the training "
    "images, not confirmed on test images"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Winner:
    """A run to export."""

    record: TrialRecord  # what the study has of it; its folder is ``trials/NNNN``
    label: str  # ``trial 12``; for a confirmation run, of the arm
    values: Mapping[str, float]  # what was measured, by metric
    confirmation: Outcome | None = None  # where its arm was confirmed
    ablation: Outcome | None = None  # where it was found to be the simplest
    searched: int = 0  # how many trials of the search ran all epochs
    pair: str = ""  # which of several pairs it is; empty where it has one, or stands for all

    @property
    def arm(self) -> Arm | None:
        """What was confirmed of it."""
        return self.confirmation.arm(self.label) if self.confirmation else None

    @property
    def status(self) -> str:
        """How far its numbers can be trusted."""
        if (found := self.confirmation) is not None:
            if self.label == found.winner:
                return found.statement
            own = statement_of(replace(found, winner=self.label, optimism=None))
            return f"Not the winner, which is {found.winner}. {own}"
        return NOT_CONFIRMED if self.ablation is None else SIMPLEST


def choose(
    ledger: Ledger, root: Path, *, trial: int | None = None, unconfirmed: bool = False, simplest: bool = False
) -> Winner:
    """Choose the run to export; arguments and errors are those of ``export``.

    A confirmed arm has a run for each seed. The one with the lowest seed is taken, not the best: that would be chosen
    on test images. So is the run of the simplest arm. Where nothing is simpler than the whole configuration, the
    simplest is the confirmed run of that.
    """
    records = records_of(root, ledger)
    searched = sum(record.state == "complete" for record in records)
    if unconfirmed:
        objectives = plain_sweep(ledger)["objectives"]
        record = _searched(ledger.name, records, objectives, trial, root)
        values = {item["metric"]: value for item, value in zip(objectives, record.values, strict=True)}
        return Winner(record=record, label=f"trial {record.number}", values=values, searched=searched)
    if simplest:
        ablation = _ablated(ledger, root)
        if ablation.simplest != WHOLE:
            label = f"trial {ablation.trial}, {ablation.simplest}"
            record, values = _lowest(ledger, ablation, ablation.arm(str(ablation.simplest)))
            return Winner(record=record, label=label, values=values, ablation=ablation, searched=searched)
        trial = ablation.trial
    way_out = "add --unconfirmed to export what the search found, with one seed on validation images"
    if simplest:
        way_out = f"replace --simplest by --trial {trial} --unconfirmed, with one seed on validation images"
    confirmation, arm = _finalist(ledger, trial, root, way_out)
    record, values = _lowest(ledger, confirmation, arm)
    return Winner(record=record, label=arm.label, values=values, confirmation=confirmation, searched=searched)


def _lowest(ledger: Ledger, found: Outcome, arm: Arm) -> tuple[TrialRecord, dict[str, float]]:
    """Give the run of an arm with the lowest seed, and what it measured."""
    run = min(arm.runs, key=lambda run: run.seed)
    return ledger.record(run.trial), {found.metric: run.value}


def _ablated(ledger: Ledger, root: Path) -> Outcome:
    found = outcome_of(ledger, "ablate")
    if found is None or not found.finished or found.simplest is None:
        stands = "has no ablation" if found is None else "has an ablation that is not finished"
        run = pasted(root, "ablate", ledger.name)
        raise StateError(f"sweep {ledger.name!r} {stands}, so the simplest is not known; run '{run}'")
    return found


def _finalist(ledger: Ledger, trial: int | None, root: Path, way_out: str) -> tuple[Outcome, Arm]:
    """Give the finished confirmation, and of it the winner or the finalist that is a trial of the search."""
    found, name, confirm = outcome_of(ledger, "confirm"), ledger.name, pasted(root, "confirm", ledger.name)
    if found is None:
        raise StateError(f"no trial of sweep {name!r} is confirmed; run '{confirm}', or {way_out}")
    if not found.finished:
        raise StateError(f"the confirmation of {name!r} is not finished; go on with '{confirm}', or {way_out}")
    finalists = {arm.trial: arm for arm in found.arms if arm.kind == "finalist" and arm.runs}
    if not finalists or found.winner is None:
        raise StateError(f"no finalist of {name!r} has a complete confirmation run; see '{confirm}'")
    if trial is None:
        return found, found.arm(found.winner)
    if trial not in finalists:
        known = ", ".join(map(str, finalists))
        raise StateError(f"trial {trial} of {name!r} is not confirmed; finalists are {known}, or {way_out}")
    return found, finalists[trial]


def _searched(
    name: str, records: Sequence[TrialRecord], objectives: Sequence[Mapping[str, Any]], number: int | None, root: Path
) -> TrialRecord:
    if number is not None:
        record = next((record for record in records if record.number == number), None)
        if record is None:
            raise StateError(f"sweep {name!r} has no trial {number}; it has {len(records)}, counted from 0")
        if record.state != "complete":
            why = f" ({record.reason})" if record.reason else ""
            raise StateError(f"trial {number} is {record.state}{why}; only trials that ran all epochs can be exported")
        return record
    if len(objectives) > 1:
        front = pareto_front(records, [item["direction"] for item in objectives])
        listed = ", ".join(str(record.number) for record in front) or "none yet"
        raise UsageError(
            f"sweep {name!r} has {len(objectives)} objectives, so --trial must say which one; "
            f"trials that none beats: {listed}"
        )
    found = best(records, maximize=objectives[0]["direction"] == "maximize")
    if found is None:
        raise StateError(f"no trial of sweep {name!r} has run all its epochs yet; see '{pasted(root, 'trials', name)}'")
    return found
