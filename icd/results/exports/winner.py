"""Which run of a sweep is exported: a confirmed winner's, on request the simplest, or a trial as searched."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from icd.errors import StateError, UsageError
from icd.results.outcome import WHOLE, Arm, Comparison, Outcome
from icd.results.sentences import facts
from icd.search import default_root
from icd.search.core.records import TrialRecord, best, pareto_front
from icd.search.study.sweep_index import pasted

NOT_CONFIRMED = "not confirmed: one seed, validation images"
SIMPLEST = (
    "the simplest configuration within one standard error of the best on validation images, trained on the training "
    "images, not confirmed on test images"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Winner:
    """A run to export.

    Attributes:
        trial: Its number; its folder is ``trials/NNNN``.
        key: Of its configuration as the study has it; None where only its folder knows.
        values: What was measured, by metric.
        attributes: Noted in the study: device, parameters, ...
        baseline: Label of a baseline.
        start: The trial of another sweep that it was taken from.
        label: ``trial 12``; for a confirmation run, of the arm.
        confirmation: Where its arm was confirmed.
        ablation: Where it was found to be the simplest.
        searched: How many trials of the search ran all epochs.
        pair: Which of several pairs it is; empty where it has one, or stands for all.
    """

    trial: int
    key: str | None
    values: Mapping[str, float]
    label: str
    attributes: Mapping[str, Any] = field(default_factory=dict)
    baseline: str | None = None
    start: str | None = None
    confirmation: Outcome | None = None
    ablation: Outcome | None = None
    searched: int = 0
    pair: str = ""

    @property
    def arm(self) -> Arm | None:
        """What was confirmed of it."""
        return self.confirmation.arm(self.label) if self.confirmation else None

    @property
    def part(self) -> Comparison | None:
        """What its ablation says of it."""
        found = self.ablation
        return next(iter(found.of(found.simplest)), None) if found else None

    @property
    def status(self) -> str:
        """How far its numbers can be trusted."""
        if self.confirmation is not None:
            return self.confirmation.statement
        return NOT_CONFIRMED if self.ablation is None else SIMPLEST

    @property
    def comparisons(self) -> tuple[Comparison, ...]:
        """Its comparisons with baselines."""
        return self.confirmation.of(self.label) if self.confirmation else ()


def choose(
    name: str,
    records: Sequence[TrialRecord],
    objectives: Sequence[Mapping[str, Any]],
    confirmation: Outcome | None,
    confirmed: Sequence[TrialRecord] = (),
    *,
    trial: int | None = None,
    unconfirmed: bool = False,
    root: Path | None = None,
) -> Winner:
    """Choose the run to export.

    A confirmed arm has a run for each seed. The one with the lowest seed is taken, not the best: that would be chosen
    on test images.

    Args:
        name: Of the sweep.
        records: Its trials.
        objectives: Metric and direction of each.
        confirmation: Of the sweep, if anything was confirmed.
        confirmed: Its trials.
        trial: Search trial that is wanted: a finalist's, or with ``unconfirmed`` any that ran all epochs.
        unconfirmed: Take a trial as the search left it.
        root: Folder of results, for commands that a message names.

    Raises:
        StateError: If nothing is confirmed and ``unconfirmed`` is off, or the trial did not run all epochs.
        UsageError: If there are several objectives, ``unconfirmed`` is on and no trial is named.
    """
    if unconfirmed:
        return _as_searched(_found(name, records, objectives, trial, root), records, objectives)
    confirmation = _finished(name, confirmation, root)
    arm = _arm(name, confirmation, trial, root)
    run = min(arm.runs, key=lambda run: run.seed)
    record = next((record for record in confirmed if record.number == run.trial), None)
    return Winner(
        trial=run.trial,
        key=record.key if record else None,
        values={confirmation.metric: run.value},
        attributes=record.attributes if record else {},
        label=arm.label,
        confirmation=confirmation,
        searched=len(_searched(records)),
    )


def choose_simplest(
    name: str,
    records: Sequence[TrialRecord],
    ablation: Outcome | None,
    ablated: Sequence[TrialRecord],
    confirmed: Callable[[int], Winner],
    root: Path | None = None,
) -> Winner:
    """Choose the simplest configuration that one standard error does not tell from the best; the lowest seed of it.

    Args:
        name: Of the sweep.
        records: Its trials.
        ablation: Of the sweep, if anything was ablated.
        ablated: Its trials.
        confirmed: Gives the confirmed run of a finalist; for the whole configuration, which nothing simpler matches.
        root: Folder of results, for commands that a message names.

    Raises:
        StateError: Without a finished ablation.
    """
    if ablation is None or not ablation.finished or ablation.simplest is None:
        stands = "has no ablation" if ablation is None else "has an ablation that is not finished"
        raise StateError(
            f"sweep {name!r} {stands}, so the simplest is not known; run '{_command(root, 'ablate', name)}'"
        )
    if ablation.simplest == WHOLE:
        return confirmed(ablation.trial or 0)
    mine = {"round": ablation.round, "arm": ablation.simplest}
    runs = [record for record in ablated if record.state == "complete" and mine.items() <= record.attributes.items()]
    run = min(runs, key=lambda record: int(record.attributes["seed"]))
    return Winner(
        trial=run.number,
        key=run.key,
        values={ablation.metric: run.values[0]},
        attributes=run.attributes,
        label=f"trial {ablation.trial}, {ablation.simplest}",
        ablation=ablation,
        searched=len(_searched(records)),
    )


def claims(winner: Winner) -> dict[str, str]:
    """Say in short lines what is known of a run's quality, n and interval beside every number."""
    arm, confirmation = winner.arm, winner.confirmation
    values = {metric: f"{value:.6g}" for metric, value in winner.values.items()}
    if winner.pair:
        values["pair"] = f"{winner.pair}; means and differences below are means over all pairs"
    if winner.ablation is not None and winner.part is not None:
        return {**values, "status": winner.status, **_ablated(winner.ablation, winner.part)}
    if arm is None or confirmation is None:
        return {**values, "status": winner.status}
    lines = {**values, "status": confirmation.statement, "arm": arm.label}
    if arm.mean is not None:
        spread = f"sd {arm.sd:.3f}, " if arm.sd is not None else ""
        lines[f"{confirmation.metric} mean"] = f"{arm.mean:.3f} ({spread}n {len(arm.runs)})"
    return lines | {f"versus {item.against}": f"{item.verdict}: {facts(item)}" for item in winner.comparisons}


def _ablated(found: Outcome, part: Comparison) -> dict[str, str]:
    arm = found.arm(part.arm)
    lines = {"changed": f"trial {found.trial}, {part.arm}", "parts": f"{arm.parts} instead of {found.whole.parts}"}
    if arm.mean is not None:
        lines[f"{found.metric} mean"] = f"{arm.mean:.3f} (n {len(arm.runs)})"
        lines["versus the whole configuration"] = f"{part.verdict}: {facts(part)}"
    return lines


def _command(root: Path | None, *words: str) -> str:
    return pasted(root or default_root(), *words)


def _finished(name: str, confirmation: Outcome | None, root: Path | None) -> Outcome:
    confirm = _command(root, "confirm", name)
    way_out = "or add --unconfirmed to export what the search found, with one seed on validation images"
    if confirmation is None:
        raise StateError(f"no trial of sweep {name!r} is confirmed; run '{confirm}', {way_out}")
    if not confirmation.finished:
        raise StateError(f"the confirmation of {name!r} is not finished; go on with '{confirm}', {way_out}")
    return confirmation


def _arm(name: str, confirmation: Outcome, trial: int | None, root: Path | None) -> Arm:
    finalists = [arm for arm in confirmation.arms if arm.kind == "finalist" and arm.runs]
    if not finalists:
        raise StateError(
            f"no finalist of {name!r} has a complete confirmation run; see '{_command(root, 'confirm', name)}'"
        )
    if trial is None:
        found = next((arm for arm in finalists if arm.label == confirmation.winner), None)
        if found is None:
            raise StateError(f"the confirmation of {name!r} names no winner; choose a finalist with --trial")
        return found
    found = next((arm for arm in finalists if arm.trial == trial), None)
    if found is None:
        known = ", ".join(str(arm.trial) for arm in finalists)
        raise StateError(f"trial {trial} of {name!r} is not confirmed; finalists are {known}, or add --unconfirmed")
    return found


def _found(
    name: str,
    records: Sequence[TrialRecord],
    objectives: Sequence[Mapping[str, Any]],
    number: int | None,
    root: Path | None,
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
        raise StateError(
            f"no trial of sweep {name!r} has run all its epochs yet; see '{_command(root, 'trials', name)}'"
        )
    return found


def _as_searched(
    record: TrialRecord, records: Sequence[TrialRecord], objectives: Sequence[Mapping[str, Any]]
) -> Winner:
    return Winner(
        trial=record.number,
        key=record.key,
        values={item["metric"]: value for item, value in zip(objectives, record.values, strict=True)},
        attributes=record.attributes,
        baseline=record.baseline,
        start=record.start,
        label=f"trial {record.number}",
        searched=len(_searched(records)),
    )


def _searched(records: Sequence[TrialRecord]) -> list[TrialRecord]:
    return [record for record in records if record.state == "complete"]
