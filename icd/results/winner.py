"""Which run of a sweep is exported: a confirmed winner's, or on request a trial as the search left it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from icd.errors import StateError, UsageError
from icd.results.confirmation import Arm, Confirmation, Versus
from icd.search.pareto import pareto_front
from icd.search.record import TrialRecord, best

NOT_CONFIRMED = "not confirmed: one seed, validation images"


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
        searched: How many trials of the search ran all epochs.
    """

    trial: int
    key: str | None
    values: Mapping[str, float]
    label: str
    attributes: Mapping[str, Any] = field(default_factory=dict)
    baseline: str | None = None
    start: str | None = None
    confirmation: Confirmation | None = None
    searched: int = 0

    @property
    def arm(self) -> Arm | None:
        """What was confirmed of it."""
        return self.confirmation.arm(self.label) if self.confirmation else None

    @property
    def versus(self) -> tuple[Versus, ...]:
        """Its comparisons with baselines."""
        if self.confirmation is None:
            return ()
        return tuple(item for item in self.confirmation.versus if item.finalist == self.label)


def choose(
    name: str,
    records: Sequence[TrialRecord],
    objectives: Sequence[Mapping[str, Any]],
    confirmation: Confirmation | None,
    confirmed: Sequence[TrialRecord] = (),
    *,
    trial: int | None = None,
    unconfirmed: bool = False,
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

    Raises:
        StateError: If nothing is confirmed and ``unconfirmed`` is off, or the trial did not run all epochs.
        UsageError: If there are several objectives, ``unconfirmed`` is on and no trial is named.
    """
    if unconfirmed:
        return _as_searched(_found(name, records, objectives, trial), records, objectives)
    confirmation = _finished(name, confirmation)
    arm = _arm(name, confirmation, trial)
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


def claims(winner: Winner) -> dict[str, str]:
    """Say in short lines what is known of a run's quality, n and interval beside every number."""
    arm, confirmation = winner.arm, winner.confirmation
    values = {metric: f"{value:.6g}" for metric, value in winner.values.items()}
    if arm is None or confirmation is None:
        return {**values, "status": NOT_CONFIRMED}
    lines = {**values, "status": confirmation.statement, "arm": arm.label}
    if arm.mean is not None:
        spread = f"sd {arm.sd:.3f}, " if arm.sd is not None else ""
        lines[f"{confirmation.metric} mean"] = f"{arm.mean:.3f} ({spread}n {len(arm.runs)})"
    for item in winner.versus:
        lines[f"versus {item.baseline}"] = (
            f"{item.mean:+.3f} {interval_text(item)}, n {len(item.seeds)}, p {item.p_holm:.3g} (Holm), {item.verdict}"
        )
    return lines


def interval_text(item: Versus) -> str:
    """Write the interval of a comparison with its level."""
    if item.low is None or item.high is None:
        return "(no interval)"
    return f"[{item.low:+.3f}, {item.high:+.3f}] ({100 * item.level:g} %)"


def _finished(name: str, confirmation: Confirmation | None) -> Confirmation:
    way_out = "or add --unconfirmed to export what the search found, with one seed on validation images"
    if confirmation is None:
        raise StateError(f"no trial of sweep {name!r} is confirmed; run 'icd confirm {name}', {way_out}")
    if not confirmation.finished:
        raise StateError(f"the confirmation of {name!r} is not finished; go on with 'icd confirm {name}', {way_out}")
    return confirmation


def _arm(name: str, confirmation: Confirmation, trial: int | None) -> Arm:
    finalists = [arm for arm in confirmation.arms if arm.kind == "finalist" and arm.runs]
    if not finalists:
        raise StateError(f"no finalist of {name!r} has a complete confirmation run; see 'icd confirm {name}'")
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
    name: str, records: Sequence[TrialRecord], objectives: Sequence[Mapping[str, Any]], number: int | None
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
        raise StateError(f"no trial of sweep {name!r} has run all its epochs yet; see 'icd trials {name}'")
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
