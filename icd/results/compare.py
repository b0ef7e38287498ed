"""Several sweeps beside each other: what differs in them, what they found, and whether that may be compared."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from icd.config.document import is_range
from icd.results.outcome import Outcome
from icd.results.read_outcome import outcome_of
from icd.results.words import flat_text, flattened, measured
from icd.search.core.records import TrialRecord, best
from icd.search.study.sweep_index import find
from icd.search.sweep_status import counts_of, plain_sweep
from icd.text import plural

_APART = ("name", "budget", "resources")  # no part of what a trial is


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """One sweep.

    Attributes:
        name: Of the sweep.
        sweep: Its configuration as plain data.
        attributes: The study's own.
        counts: Trials by state.
        best: The best complete trial by the first objective.
        seconds: Of training, over all trials.
        confirmation: Where one was begun.
    """

    name: str
    sweep: Mapping[str, Any]
    attributes: Mapping[str, Any]
    counts: Mapping[str, int]
    best: TrialRecord | None
    seconds: float
    confirmation: Outcome | None

    @property
    def objective(self) -> Mapping[str, str]:
        """The first one."""
        first: Mapping[str, str] = self.sweep["objectives"][0]
        return first


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """Sweeps side by side.

    Attributes:
        names: Of the sweeps, one for each column.
        warnings: Why their figures should not be compared, in plain words.
        figures: What was found and what it took, as text: one row for each thing, one cell for each sweep.
        differences: Fields of the configurations that are not the same everywhere.
    """

    names: tuple[str, ...]
    warnings: tuple[str, ...]
    figures: Mapping[str, tuple[str, ...]]
    differences: Mapping[str, tuple[str, ...]]

    def to_data(self) -> dict[str, Any]:
        """Write it for JSON."""
        rows = {"figures": self.figures, "differences": self.differences}
        told = {
            kind: {row: dict(zip(self.names, cells, strict=True)) for row, cells in table.items()}
            for kind, table in rows.items()
        }
        return {"names": list(self.names), "warnings": list(self.warnings), **told}


def compare(root: Path, names: Sequence[str]) -> Comparison:
    """Put sweeps side by side.

    Raises:
        StateError: If there is none of a name.
    """
    sides = [_side(root, name) for name in names]
    figures = [_figures(side) for side in sides]
    configs = [flattened({k: v for k, v in side.sweep.items() if k not in _APART}) for side in sides]
    paths = dict.fromkeys(path for config in configs for path in config)
    rows = {path: tuple(flat_text(config[path]) if path in config else "" for config in configs) for path in paths}
    return Comparison(
        names=tuple(names),
        warnings=tuple(_warnings(sides)),
        figures={row: tuple(side[row] for side in figures) for row in figures[0]},
        differences={path: cells for path, cells in rows.items() if len(set(cells)) > 1},
    )


def _side(root: Path, name: str) -> Side:
    ledger = find(root, name)
    sweep, records = plain_sweep(ledger), ledger.records()
    return Side(
        name=name,
        sweep=sweep,
        attributes=ledger.attributes,
        counts=counts_of(records),
        best=best(records, maximize=sweep["objectives"][0]["direction"] == "maximize"),
        seconds=sum(float(record.attributes.get("seconds", 0.0)) for record in records),
        confirmation=outcome_of(ledger, "confirm"),
    )


def _figures(side: Side) -> dict[str, str]:
    metric, found = side.objective["metric"], side.best
    counts = ", ".join(f"{count} {state}" for state, count in side.counts.items() if count)
    networks = {part: _networks(side.sweep, part) for part in ("teacher", "student")}
    cpus, gpus = side.sweep["resources"]["cpus_per_trial"], side.attributes.get("gpus_per_trial")
    return {
        "data": flat_text(side.sweep.get("data")),
        **networks,
        "trials": counts or "none",
        "best (one seed)": f"{metric} {measured(metric, found.values[0])} (trial {found.number})" if found else "",
        "confirmed": _confirmed(side.confirmation),
        "CPU-hours": f"{float(cpus) * side.seconds / 3600:.3g}",
        "GPU-hours": "" if gpus is None else f"{float(gpus) * side.seconds / 3600:.3g}",
        "created": str(side.attributes.get("created", "")),
    }


def _networks(sweep: Mapping[str, Any], part: str) -> str:
    if "pairs" in sweep:
        return ", ".join(_network(pair[part]) for pair in sweep["pairs"])
    return "searched" if "pair" in sweep else _network(sweep.get(part))


def _network(value: Any) -> str:
    if value is None or is_range(value):
        return "none" if value is None else "searched"
    return str(value.get("arch", flat_text(value))) if isinstance(value, Mapping) else str(value)


def _confirmed(found: Outcome | None) -> str:
    """Write the winner's mean and its intervals against every baseline."""
    if found is None or found.winner is None:
        return "no"
    arm = found.arm(found.winner)
    spread = "" if arm.sd is None else f" ± {arm.sd:.2f}"
    mean = "-" if arm.mean is None else f"{arm.mean:.2f}"
    intervals = [
        f"{item.difference:+.2f}{f' [{item.interval}]' if item.interval else ''} against {item.against}"
        for item in found.of(arm.label)
        if item.difference is not None
    ]
    words = "; ".join([f"{arm.label}: {mean}{spread} (n={len(arm.runs)})", *intervals])
    return words if found.finished else f"{words}; not finished"


def _warnings(sides: Sequence[Side]) -> list[str]:
    found = []
    images, splits = zip(
        *(str(side.attributes.get("data_digest", "")).partition(":")[::2] for side in sides), strict=True
    )
    if len(set(images)) > 1:
        found.append("They were trained on different images: values cannot be compared.")
    elif len(set(splits)) > 1:
        found.append("Their training and validation images are split differently: small differences mean nothing.")
    if len({(side.objective["metric"], side.objective["direction"]) for side in sides}) > 1:
        told = "; ".join(f"{side.name}: {side.objective['direction']} {side.objective['metric']}" for side in sides)
        found.append(f"Their objectives differ ({told}): best values cannot be compared.")
    teachers = {tuple(sorted(side.attributes.get("teachers", {}).values())) for side in sides}
    if len(teachers) > 1:
        found.append("Their teachers differ: a difference may be the teacher's.")
    confirmed = [side.name for side in sides if side.confirmation is not None]
    if 0 < len(confirmed) < len(sides):
        found.append(
            f"Only {', '.join(confirmed)} is confirmed: compare a mean over fresh seeds with another one only."
        )
    ways = {(side.confirmation.metric, side.confirmation.train_on) for side in sides if side.confirmation is not None}
    if len(ways) > 1:
        found.append("They were confirmed in different ways (metric, or what was trained on).")
    counts = [side.counts["complete"] for side in sides]
    if not confirmed and len(set(counts)) > 1 and min(counts):
        told = ", ".join(f"{side.name} {plural(side.counts['complete'], 'trial')}" for side in sides)
        found.append(f"The best of more trials is higher by chance alone ({told}, one seed each).")
    several = [side.name for side in sides if "pairs" in side.sweep]
    if several:
        told = "is the mean of several pairs; 'icd compare --pairs' compares pair by pair"
        found.append(f"The best value of {', '.join(several)} {told}.")
    found += [f"No trial of {side.name} has run all its epochs." for side in sides if not side.counts["complete"]]
    return found
