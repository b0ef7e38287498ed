"""Several sweeps beside each other: what differs in them, what they found, and whether that may be compared."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from icd.results.outcome import Outcome
from icd.results.read_outcome import outcome_of
from icd.results.words import flat_text, flattened, measured
from icd.search.core.records import TrialRecord, best
from icd.search.study.ledger import Ledger
from icd.search.study.sweep_index import find
from icd.search.sweep_status import counts_of, plain_sweep
from icd.text import plural

_APART = ("name", "budget", "resources")  # no part of what a trial is
_TRAINED = ("data", "teacher", "student", "pair", "pairs")
Cells = dict[str, dict[str, str]]  # a row for each thing, a cell for each sweep


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """Sweeps side by side.

    Attributes:
        names: Of the sweeps, one for each column.
        warnings: Why their figures should not be compared, in plain words.
        figures: What was found and what it took, as text.
        differences: Fields of the configurations that are not the same everywhere.
    """

    names: tuple[str, ...]
    warnings: tuple[str, ...]
    figures: Cells
    differences: Cells

    def to_data(self) -> dict[str, Any]:
        """Write it for JSON."""
        return asdict(self)


class _Side:
    """One sweep: what was searched, the trials, and the confirmation where one was begun."""

    def __init__(self, ledger: Ledger) -> None:
        self.name, self.attributes, self.sweep = ledger.name, ledger.attributes, plain_sweep(ledger)
        self.records: Sequence[TrialRecord] = ledger.records()
        self.confirmation: Outcome | None = outcome_of(ledger, "confirm")
        self.complete = counts_of(self.records)["complete"]
        first = self.sweep["objectives"][0]
        self.metric, self.goal = first["metric"], f"{first['direction']} {first['metric']}"
        self.best = best(self.records, maximize=first["direction"] == "maximize")


def compare(root: Path, names: Sequence[str]) -> Comparison:
    """Put sweeps side by side.

    Raises:
        StateError: If there is none of a name.
    """
    sides = [_Side(find(root, name)) for name in names]
    configs = [flattened({k: v for k, v in side.sweep.items() if k not in _APART}) for side in sides]
    fields = [{path: flat_text(value) for path, value in config.items()} for config in configs]
    rows = _rows(names, fields)
    return Comparison(
        names=tuple(names),
        warnings=tuple(_warnings(sides)),
        figures=_rows(names, [_figures(side) for side in sides]),
        differences={path: cells for path, cells in rows.items() if len(set(cells.values())) > 1},
    )


def _rows(names: Sequence[str], columns: Sequence[Mapping[str, str]]) -> Cells:
    rows = dict.fromkeys(row for column in columns for row in column)
    return {row: dict(zip(names, (column.get(row, "") for column in columns), strict=True)) for row in rows}


def _figures(side: _Side) -> dict[str, str]:
    found, counts = side.best, counts_of(side.records)
    hours = sum(float(record.attributes.get("seconds", 0.0)) for record in side.records) / 3600
    cpus, gpus = side.sweep["resources"]["cpus_per_trial"], side.attributes.get("gpus_per_trial")
    return {
        **{part: flat_text(side.sweep[part]) for part in _TRAINED if side.sweep.get(part)},
        "trials": ", ".join(f"{count} {state}" for state, count in counts.items() if count) or "none",
        "best (one seed)": f"{side.metric} {measured(side.metric, found.values[0])} (trial {found.number})"
        if found
        else "",
        "confirmed": _confirmed(side.confirmation),
        "CPU-hours": f"{float(cpus) * hours:.3g}",
        "GPU-hours": "" if gpus is None else f"{float(gpus) * hours:.3g}",
        "created": str(side.attributes.get("created", "")),
    }


def _confirmed(found: Outcome | None) -> str:
    """Write the winner's mean and its intervals against every baseline."""
    if found is None or found.winner is None:
        return "no"
    arm = found.arm(found.winner)
    spread = "" if arm.sd is None else f" ± {arm.sd:.2f}"
    intervals = [
        f"{item.difference:+.2f}{f' [{item.interval}]' if item.interval else ''} against {item.against}"
        for item in found.of(arm.label)
        if item.difference is not None
    ]
    words = "; ".join([f"{arm.label}: {arm.mean:.2f}{spread} (n={len(arm.runs)})", *intervals])
    return words if found.finished else f"{words}; not finished"


def _warnings(sides: Sequence[_Side]) -> list[str]:
    found = []
    digests = [str(side.attributes.get("data_digest", "")).partition(":") for side in sides]
    if len({images for images, _, _ in digests}) > 1:
        found.append("They were trained on different images: values cannot be compared.")
    elif len({split for _, _, split in digests}) > 1:
        found.append("Their training and validation images are split differently: small differences mean nothing.")
    if len({side.goal for side in sides}) > 1:
        told = "; ".join(f"{side.name}: {side.goal}" for side in sides)
        found.append(f"Their objectives differ ({told}): best values cannot be compared.")
    if len({tuple(sorted(side.attributes.get("teachers", {}).values())) for side in sides}) > 1:
        found.append("Their teachers differ: a difference may be the teacher's.")
    confirmed = {side.name: side.confirmation for side in sides if side.confirmation is not None}
    if 0 < len(confirmed) < len(sides):
        told = ", ".join(confirmed)
        found.append(f"Only {told} is confirmed: compare a mean over fresh seeds with another one only.")
    if len({(outcome.metric, outcome.train_on) for outcome in confirmed.values()}) > 1:
        found.append("They were confirmed in different ways (metric, or what was trained on).")
    counts = [side.complete for side in sides]
    if not confirmed and len(set(counts)) > 1 and min(counts):
        told = ", ".join(f"{side.name} {plural(side.complete, 'trial')}" for side in sides)
        found.append(f"The best of more trials is higher by chance alone ({told}, one seed each).")
    several = [side.name for side in sides if "pairs" in side.sweep]
    if several:
        told = "is the mean of several pairs; 'icd compare --pairs' compares pair by pair"
        found.append(f"The best value of {', '.join(several)} {told}.")
    return [*found, *(f"No trial of {side.name} has run all its epochs." for side in sides if not side.complete)]
