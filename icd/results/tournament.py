"""``icd table``: every row of a table tuned with the same budget, then trained on the same fresh seeds.

The file is a sweep whose ``space.method`` names the rows. Each row (of each pair, where the space has some) becomes a
sweep of its own, and its best trial is confirmed on seeds that all rows share. A row of the paper is tried untuned
first, so tuning can only add to it.
"""

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from icd.config.coverage import size
from icd.config.read_sweep import read_sweep
from icd.config.sampling import is_node
from icd.config.sweep import Branches, SweepConfig
from icd.config.yaml import Document
from icd.errors import StateError, UsageError
from icd.methods import PAPER_ROWS
from icd.results.arms import Plan, PlannedArm, begin_plan, fresh_seeds, stored_plans
from icd.results.confirm import tell_confirmation
from icd.results.confirmed import confirmation_of
from icd.search import sweeps
from icd.search.reading import status_of
from icd.search.record import best
from icd.search.session import Settings
from icd.search.space import SearchSpace
from icd.search.stages import run_stage
from icd.search.storage import open_storage, storage_url
from icd.search.studies import find
from icd.search.study import Ledger
from icd.search.warm_start import stored_starts


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One row for one pair: a sweep of its own.

    Attributes:
        row: Name of the method.
        column: Label of the pair; empty where the file has only one.
        document: The sweep's file.
        sweep: The same, read.
    """

    row: str
    column: str
    document: Document
    sweep: SweepConfig


def entries(document: Document) -> list[Entry]:
    """Make a sweep of every row and pair.

    Raises:
        ConfigError: With every problem of the file.
        UsageError: If it names no rows, samples the seed, or trains every trial on several pairs.
    """
    whole = read_sweep(document)
    rows = whole.space.get("method")
    if not isinstance(rows, Branches):
        raise UsageError(
            f"{document.source}: a table needs space.method with the rows to compare, such as [KD, iCD-KD]"
        )
    if whole.generalist is not None:
        raise UsageError(f"{document.source}: a table tunes every pair for itself; drop generalist, or take space.pair")
    if "seed" in whole.space:
        raise UsageError(f"{document.source}: a table chooses its seeds itself; drop space.seed, and say --seeds")
    columns = whole.space["pair"].labels if "pair" in whole.space else ("",)
    return [
        _entry(document, row, rows.fields[row], column, place if column else None)
        for place, column in enumerate(columns)
        for row in rows.fields
    ]


def run_table(document: Document, settings: Settings, *, seeds: int) -> list[Entry]:
    """Search and confirm what is left of every entry.

    Args:
        document: The file.
        settings: How and where.
        seeds: For each row, the same for all.

    Raises:
        Interrupted: If a signal stopped it; the same call goes on.
        StateError: If ``icd stop`` ended a sweep, or an entry was begun otherwise.
    """
    found = entries(document)
    for place, entry in enumerate(found, start=1):
        name = entry.sweep.name
        if not _searched(entry, settings):
            settings.announce(f"row {place} of {len(found)}: sweep {name}")
            result = sweeps.run(entry.sweep, entry.document.data, settings)
            if result.stopped_by == "stop":
                raise StateError(f"sweep {name!r} was stopped; the same command goes on with it")
        if best(find(settings.root, name).records(), maximize=_maximize(entry.sweep)) is None:
            settings.announce(f"row {place} of {len(found)}: no trial of {name} is complete, so it has no entry")
        elif not _confirmed(entry, settings):
            settings.announce(f"row {place} of {len(found)}: {seeds} seeds of the best of {name}")
            run_stage(name, _listing(seeds), settings, finish=partial(tell_confirmation, settings))
    return found


def _listing(seeds: int) -> Any:
    def listed(ledger: Ledger, sweep: SweepConfig) -> Plan:
        plans = stored_plans(ledger, "confirm")
        if plans:
            if len(plans[-1].seeds) != seeds:
                begun = len(plans[-1].seeds)
                raise StateError(f"the table was begun with {begun} seeds; take --seeds {begun}, or another name")
            return plans[-1]
        record = best(ledger.records(), maximize=_maximize(sweep))
        if record is None:
            raise StateError(f"no trial of sweep {ledger.name!r} is complete")
        space = SearchSpace(sweep, stored_starts(ledger))
        config = space.read(space.tried(record))
        arm = PlannedArm(
            label=f"trial {record.number}",
            kind="finalist",
            trial=record.number,
            search_value=record.values[0],
            config=config.to_data(),
        )
        chosen = fresh_seeds(ledger, {config.seed}, seeds)
        return begin_plan(
            ledger, Plan(stage="confirm", arms=(arm,), seeds=chosen, first=seeds, adaptive=False), anew=False
        )

    return listed


def _entry(document: Document, row: str, fields: Mapping[str, Any], column: str, place: int | None) -> Entry:
    data = copy.deepcopy(dict(document.data))
    data["name"] = ".".join(part for part in (data["name"], column, row) if part)
    space = data["space"]
    space["method"] = {row: _own(space["method"], row)}
    if place is not None:
        pairs = space.pop("pair")
        chosen = (pairs["choices"] if isinstance(pairs, dict) else pairs)[place]
        data |= {"teacher": chosen["teacher"], "student": chosen["student"]}
    plain = {name: value for name, value in fields.items() if not is_node(value)}
    first = {"label": row, "method": {"row": row, **_own_plain(space["method"][row], plain)}}
    data["enqueue"] = [first] if row in PAPER_ROWS else []
    made = Document(data, f"{document.source} ({data['name']})")
    sweep = read_sweep(made)
    points = size(sweep.space)
    if points is not None and (sweep.budget.trials is None or points < sweep.budget.trials):
        data["sampler"] = "grid"  # nothing, or little, to tune: every point once
        data["budget"] = {key: value for key, value in (data.get("budget") or {}).items() if key != "trials"}
        sweep = read_sweep(made)
    return Entry(row=row, column=column, document=made, sweep=sweep)


def _own(methods: Any, row: str) -> dict[str, Any]:
    """Give a row's own fields, however the file names its rows."""
    items = methods["choices"] if isinstance(methods, dict) and "choices" in methods else methods
    if isinstance(items, dict):
        return dict(items.get(row) or {})
    named = [item for item in items if isinstance(item, dict) and row in item]
    return dict(named[0][row] or {}) if named else {}


def _own_plain(fields: Mapping[str, Any], plain: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if name in plain}


def _maximize(sweep: SweepConfig) -> bool:
    return sweep.objectives[0].direction == "maximize"


def _searched(entry: Entry, settings: Settings) -> bool:
    """Whether an entry's sweep is finished as it is wanted; one that was begun otherwise is refused when it is run."""
    url = storage_url(settings.root)
    if url.startswith("sqlite") and not (settings.root / "study.db").exists():
        return False
    if entry.sweep.name not in Ledger.names(open_storage(url)):
        return False
    ledger = Ledger(open_storage(url), entry.sweep.name)
    same = ledger.attributes.get("digest") == entry.sweep.digest()
    return same and status_of(settings.root, entry.sweep.name).state == "finished"


def _confirmed(entry: Entry, settings: Settings) -> bool:
    found = confirmation_of(find(settings.root, entry.sweep.name))
    return found is not None and found.finished
