"""Several sweeps beside each other: what differs in them, what they found, and whether that may be compared."""

from collections.abc import Mapping, Sequence
from operator import attrgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from icd.errors import StateError, UsageError
from icd.results.outcome import Outcome
from icd.results.read_outcome import outcome_of
from icd.results.words import flat_text, flattened, measured, rendered, signed
from icd.search.core.device_usage import device_hours
from icd.search.core.records import TrialRecord, best
from icd.search.study.ledger import Ledger
from icd.search.study.sweep_index import find, pasted, refuse_several_pairs
from icd.search.sweep_status import counts_of, plain_sweep, records_of

if TYPE_CHECKING:  # these bring torch
    from icd.config.trial import TrialConfig
    from icd.results.searched import Searched

_APART = ("name", "budget", "resources")  # no part of what a trial is
TRAINED = ("data", "teacher", "student", "pair", "pairs")  # what figures begin with


class _Side:
    """One sweep: what was searched, the trials, and the confirmation where one was begun."""

    def __init__(self, root: Path, ledger: Ledger) -> None:
        self.name, self.attributes, self.sweep = ledger.name, ledger.attributes, plain_sweep(ledger)
        self.records: Sequence[TrialRecord] = records_of(root, ledger)
        self.confirmation: Outcome | None = outcome_of(ledger, "confirm")
        self.complete = counts_of(self.records)["complete"]
        found = self.confirmation
        self.finalists = sum(arm.kind == "finalist" for arm in found.arms) if found else None
        first = self.sweep["objectives"][0]
        self.metric, self.goal = first["metric"], f"{first['direction']} {first['metric']}"
        self.best = best(self.records, maximize=first["direction"] == "maximize")
        self.images, _, self.split = str(self.attributes.get("data_digest", "")).partition(":")
        self.teachers = tuple(sorted(self.attributes.get("teachers", {}).values()))
        self.test_digest = self.attributes.get("test_digest") or None


def compare(root: Path, names: Sequence[str]) -> dict[str, Any]:
    """Put sweeps side by side.

    Returns:
        Plain data: ``names``; ``warnings``, why their figures should not be compared; ``figures``, what was found and
        what it took; ``differences``, fields of the configurations that are not the same everywhere. The last two have
        a row for each thing, and in it a text for each sweep.

    Raises:
        StateError: If there is none of a name.
    """
    sides = [_Side(root, find(root, name)) for name in names]
    configs = [flattened({k: v for k, v in side.sweep.items() if k not in _APART}) for side in sides]
    rows = _rows(names, [{path: flat_text(value, 15) for path, value in config.items()} for config in configs])
    differences = {path: cells for path, cells in rows.items() if len(set(cells.values())) > 1}
    figures = _rows(names, [_figures(side) for side in sides])
    return {"names": [*names], "warnings": _warnings(sides), "figures": figures, "differences": differences}


def _rows(names: Sequence[str], columns: Sequence[Mapping[str, str]]) -> dict[str, dict[str, str]]:
    rows = dict.fromkeys(row for column in columns for row in column)
    return {row: dict(zip(names, (column.get(row, "") for column in columns), strict=True)) for row in rows}


def _figures(side: _Side) -> dict[str, str]:
    found, counts = side.best, counts_of(side.records)
    cpus, gpus = side.sweep["resources"]["cpus_per_trial"], side.attributes.get("gpus_per_trial")
    reached = f"{side.metric} {measured(side.metric, found.values[0])} (trial {found.number})" if found else ""
    return {
        **{part: flat_text(side.sweep[part]) for part in TRAINED if side.sweep.get(part)},
        "trials": ", ".join(f"{count} {state}" for state, count in counts.items() if count) or "none",
        "best (one seed)": reached,
        "CPU-hours": f"{device_hours(side.records, 'cpus', cpus):.3g}",
        "GPU-hours": "" if gpus is None else f"{device_hours(side.records, 'gpus', gpus):.3g}",
        "created": str(side.attributes.get("created", "")),
        **_confirmed(side.confirmation, side.finalists),
    }


def _confirmed(found: Outcome | None, finalists: int | None) -> dict[str, str]:
    """Write the winner's mean, what choosing it adds to that by luck, and a row for each baseline with the interval."""
    if found is None or found.winner is None:
        return {"confirmed": "no"}
    arm = found.arm(found.winner)
    spread = "" if arm.sd is None else f" ± {arm.sd:.2f}"
    mean = f"{arm.label}: {arm.mean:.2f}{spread} (n={arm.n})"
    rows = {"confirmed": mean if found.finished else f"not finished; {mean}"}
    if found.under_way:
        rows["confirmed"] += f"; confirmation {found.under_way} is under way"
    if found.optimism is not None:
        rows["chosen among"] = f"{finalists} finalists, by luck about {found.optimism:.2f} too high"
    for item in found.of(arm.label):
        if item.difference is not None:
            rows[f"against {item.against}"] = (
                f"{signed(item.difference)}{f' [{item.interval}]' if item.interval else ''}"
            )
    return rows


def _warnings(sides: Sequence[_Side]) -> list[str]:
    def differ(name: str) -> bool:
        """Whether an attribute, or one of confirmations, is not the same in all sweeps that have it."""
        known = {attrgetter(name)(side) for side in sides if side.confirmation or "." not in name}
        return len(known - {None}) > 1

    return [line for line in rendered("warnings.txt.j2", sides=sides, differ=differ).splitlines() if line]


def compare_pairs(root: Path, name: str, others: Sequence[str]) -> dict[str, Any]:
    """Put the winner of a sweep over several pairs beside the best trial of a sweep for each pair.

    A sweep belongs to the pair with the networks, teacher weights and images of its best trial. Of several sweeps for
    one pair the better one is taken.

    Returns:
        Plain data: ``name`` of the sweep, ``trial`` that won by rank, ``trials`` that it is the best of, the first
        objective's ``metric`` and ``direction``, and ``rows``. A row has a ``pair``, what the winner reaches on it
        (``common``), and of the pair's own sweep its name (``sweep``), its best ``trial``, the count of complete
        ``trials``, what that reaches (``own``) and the ``difference``: ``common`` minus ``own``.

    Raises:
        UsageError: If the first is not over several pairs or another is, one belongs to no pair, or the objectives
            differ.
        StateError: If there is none of a name, or one has no complete trial.
    """
    from icd.search.session import stored_sweep

    ledger = find(root, name)
    if not ledger.ranked:
        raise UsageError(f"sweep {name!r} is not over several pairs; name such a sweep first, then one for each pair")
    objective = stored_sweep(ledger).objectives[0]
    winner, searched = _best(ledger, root)
    configs, found = searched.configs(winner), dict[str, dict[str, Any]]()
    better = max if objective.direction == "maximize" else min
    for other in others:
        own = find(root, other)
        refuse_several_pairs(own, "--pairs takes none beside the first")
        goal, got = (f"{of.direction} {of.metric}" for of in (objective, stored_sweep(own).objectives[0]))
        if goal != got:
            raise UsageError(f"sweep {other!r} must have the objective {goal} too, but got {got}")
        record, alone = _best(own, root)
        pair, value = _pair_of(own, alone.configs(record)[""], configs, ledger), record.values[0]
        row: dict[str, Any] = {"sweep": other, "trial": record.number, "trials": len(alone.ordered)}
        row |= {"own": value, "difference": winner.members[pair] - value}
        found[pair] = better([found.get(pair, row), row], key=lambda row: row["own"])
    none = {"sweep": None, "trial": None, "trials": 0, "own": None, "difference": None}
    rows = [{"pair": pair, "common": winner.members[pair], **found.get(pair, none)} for pair in configs]
    said = {"metric": objective.metric, "direction": objective.direction}
    return {"name": name, "trial": winner.number, "trials": len(searched.ordered), **said, "rows": rows}


def _best(ledger: Ledger, root: Path) -> "tuple[TrialRecord, Searched]":
    from icd.results.searched import Searched
    from icd.search.session import stored_sweep

    searched = Searched.of(ledger, stored_sweep(ledger))
    if not searched.ordered:
        see = pasted(root, "trials", ledger.name)
        raise StateError(f"no trial of sweep {ledger.name!r} has run all its epochs yet; see '{see}'")
    return searched.ordered[0], searched


def _pair_of(own: Ledger, config: "TrialConfig", runs: "Mapping[str, TrialConfig]", ours: Ledger) -> str:
    """Name the pair that a sweep of one pair has: the same networks, teacher weights and images."""
    same_images = ours.attributes["data_digest"] == own.attributes["data_digest"]
    student, teacher = config.student, config.to_data().get("teacher")
    for pair, run in runs.items():
        if same_images and (run.student, run.to_data().get("teacher")) == (student, teacher):
            return pair
    why = "its networks are those of no pair" if same_images else "its images are others"
    raise UsageError(f"sweep {own.name!r} belongs to no pair of {ours.name!r} ({', '.join(runs)}): {why}")
