"""``icd benchmark``: every row of a table tuned with the same budget, then trained on the same fresh seeds.

The file is a sweep that chooses its ``method`` among the rows. Each row (of each pair, where there are some)
becomes a sweep of its own, and its best trial is confirmed on seeds that all rows share. A row of the paper is tried
untuned first, so tuning can only add to it.
"""

import json
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from icd.config.document import full_form
from icd.config.ranges import Choice, is_node, plain
from icd.config.read_sweep import read_sweep
from icd.config.space import fixed_part
from icd.config.sweep import SweepConfig
from icd.config.trial import differences
from icd.config.walk import size
from icd.config.yaml import Document
from icd.errors import ConfigError, Interrupted, StateError, UsageError
from icd.methods import PAPER_ROWS
from icd.results.outcome import FailedRuns
from icd.results.plan import Plan, begin_plan, planned_seeds, seeds_beside, stored_plans
from icd.results.run_plan import train_listed
from icd.results.searched import Searched, planned_arm
from icd.search import run_sweep
from icd.search.core.records import failed_too_often
from icd.search.settings import Settings
from icd.search.study.ledger import Ledger
from icd.search.study.sweep_index import find, pasted
from icd.search.sweep_status import status_of

SEEDS = 5
JUDGING = "benchmark/judging"  # attribute of a row's study: what the table was judged by when its runs were begun
_LONGEST = 24  # letters of a pair in the name of a sweep, which may have 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One row, a method, for one pair (``column``, empty where the file has only one): a sweep of its own."""

    row: str
    column: str
    document: Document
    sweep: SweepConfig


def entries(document: Document) -> list[Entry]:
    """Make a sweep of every row and pair.

    Raises:
        ConfigError: With every problem of the file, or if it samples the seed.
        UsageError: If it names no rows, enqueues anything, or trains every trial on several pairs.
    """
    whole = read_sweep(document)
    rows, pairs = whole.template.get("method"), whole.template.get("pair")
    for is_wrong, rule in (
        (not isinstance(rows, Choice), "needs the rows to compare, as in method: {choices: [KD, iCD-KD]}"),
        (whole.pairs, "tunes every pair for itself; take pair: {choices: [...]}"),
        (whole.enqueue or whole.sources, "tries each row of the paper untuned by itself; drop enqueue"),
    ):
        if is_wrong:
            raise UsageError(f"{document.source}: a table {rule}")
    if is_node(seed := whole.template.get("seed")):
        rule, hint = "must be one number in a table, which chooses its seeds itself", "give one seed, and say --seeds"
        raise ConfigError(document.problem(("seed",), rule, value=plain(seed), hint=hint))
    labels, names = (pairs.labels, _names(pairs.labels)) if isinstance(pairs, Choice) else (("",), [""])
    return [
        _entry(whole, document.source, row, label, name)
        for label, name in zip(labels, names, strict=True)
        for row in whole.template["method"].labels
    ]


def benchmark_seeds(found: Sequence[Entry], root: Path, asked: int | None = None) -> tuple[int, ...]:
    """Give the seeds that all rows share: those of a table that was begun, else fresh ones, 5 or so many as asked.

    Raises:
        StateError: If the table was begun with another number.
    """
    ledgers = [ledger for entry in found if (ledger := begun(root, entry))]
    plan = next(filter(None, map(benchmark_plan, ledgers)), None)
    if plan is not None:
        count = len(plan.seeds)
        if asked not in (None, count):
            raise StateError(f"the table was begun with {count} seeds; take --seeds {count}, or another name")
        return plan.seeds
    used = {int(entry.sweep.template.get("seed", 0)) for entry in found}.union(*map(planned_seeds, ledgers))
    return seeds_beside(used, asked or SEEDS, "\n".join(entry.sweep.digest() for entry in found))


def begun(root: Path, entry: Entry, *, same_budget: bool = False) -> Ledger | None:
    """Open the study of an entry; None where there is none yet.

    Raises:
        StateError: If a sweep of that name is another one, or with ``same_budget`` had another budget.
    """
    try:
        ledger = find(root, entry.sweep.name)
    except StateError:  # never begun, or cut off while it began
        return None
    before, now = json.loads(ledger.attributes["sweep"]), entry.sweep.to_data()
    for data in (before, now):
        data.pop("resources")
        if not same_budget:
            data["search"].pop("budget")
    if changed := "; ".join(differences(before, now)):
        raise StateError(f"sweep {ledger.name!r} was begun otherwise; undo, or choose another name: {changed}")
    return ledger


def benchmark_plan(ledger: Ledger) -> Plan | None:
    """Give the plan that a table made: of one arm alone, which ``icd confirm`` never makes."""
    return next((plan for plan in stored_plans(ledger, "confirm") if len(plan.arms) == 1), None)


def run_benchmark(
    document: Document,
    settings: Settings,
    *,
    seeds: int | None = None,
    failed_runs: FailedRuns = "left-out",
    judging: Mapping[str, Any] | None = None,
) -> list[str]:
    """Search and confirm what is left of every entry, on so many seeds, the same for all; see ``benchmark_seeds``.

    ``failed_runs`` says what a run counts that diverged; a row that was begun keeps what it was begun with. So it does
    with ``judging``, the table's, by which ``read_benchmark`` knows a table that is to be judged otherwise.

    Returns:
        Names of the sweeps of which more trials or runs failed than their budget allows; the other rows have theirs.

    Raises:
        Interrupted: If a signal stopped it; the same call goes on.
        StateError: If ``icd stop`` ended a sweep or its confirmation, or an entry was begun otherwise.
    """
    found = entries(document)
    shared, name = benchmark_seeds(found, settings.root, seeds), ""

    def listed(ledger: Ledger, sweep: SweepConfig) -> Plan:
        if (plan := benchmark_plan(ledger)) is not None:
            return plan
        searched = Searched.of(ledger, sweep)
        first = searched.ordered[0]
        arm = planned_arm(f"trial {first.number}", "finalist", searched.configs(first), found=first)
        ledger.note_study(**{JUDGING: judging})
        more: Any = {"first": len(shared), "adaptive": False, "failed_runs": failed_runs}
        return begin_plan(ledger, Plan(stage="confirm", arms=(arm,), seeds=shared, **more), anew=True)

    try:
        for place, entry in enumerate(found, start=1):
            name, row = entry.sweep.name, f"row {place} of {len(found)}"
            # A row that is finished would keep another budget.
            if not begun(settings.root, entry, same_budget=True) or status_of(settings.root, name).state != "finished":
                settings.announce(f"{row}: sweep {name}")
                _refuse_stopped(name, run_sweep.run(entry.sweep, entry.document.data, settings).stopped_by)
            ledger = find(settings.root, name)
            plan = benchmark_plan(ledger)
            if status_of(settings.root, name).best is None:
                settings.announce(f"{row}: no trial of {name} is complete, so it has no entry")
            elif plan is None or not plan.finished(ledger.records("confirm")):
                settings.announce(f"{row}: {len(shared)} seeds of the best of {name}")
                _refuse_stopped(name, train_listed("confirm", name, settings, listed))
    except Interrupted as error:
        again = pasted(settings.root, "benchmark", shlex.quote(document.source))
        raise Interrupted(f"the table stopped at {name}; continue with '{again}' and its other options") from error
    return [entry.sweep.name for entry in found if _failed_too_often(entry, settings.root)]


def _refuse_stopped(name: str, stopped_by: str) -> None:
    if stopped_by == "stop":
        raise StateError(f"sweep {name!r} was stopped; the same command goes on with it")


def _failed_too_often(entry: Entry, root: Path) -> bool:
    ledger, most = find(root, entry.sweep.name), entry.sweep.budget.max_failed_fraction
    plan = benchmark_plan(ledger)
    runs = [] if plan is None else plan.records(ledger.records("confirm"))
    return failed_too_often(ledger.records(), most) or failed_too_often(runs, most)


def _names(columns: Sequence[str]) -> list[str]:
    """Name pairs as sweeps may be named; by number where two would be alike or one is long."""
    names = [re.sub(r"[^A-Za-z0-9._-]+", "-", column).strip("-") for column in columns]
    if len(set(names)) == len(names) and max(map(len, names)) <= _LONGEST:
        return names
    return [f"pair{place}" for place in range(1, len(names) + 1)]


def _entry(whole: SweepConfig, source: str, row: str, column: str, short: str) -> Entry:
    """Make the sweep of one row and pair: the whole one with both fixed."""
    data = whole.to_data()
    method = whole.template["method"].option(row)
    data |= {
        "name": ".".join(part for part in (whole.name, short, row.replace("+", "-")) if part),
        "method": {"choices": [plain(method)]},
    }
    if column:
        data |= plain(whole.template["pair"].option(column))
        del data["pair"]
    untuned = {name: value for name, value in full_form("method", method).items() if name not in ("recipe", "name")}
    first = {"label": row, "method": {"recipe": row, **(fixed_part(untuned) or {})}}
    data["search"]["enqueue"] = [first] if row in PAPER_ROWS else []
    points = size({**whole.template, "pair": None, "method": method})
    trials = whole.budget.trials
    if points is not None and (trials is None or points < trials):
        data["search"]["sampler"]["name"] = "grid"  # nothing, or little, to tune: every point once
        data["search"]["budget"]["trials"] = None
    made = Document(data, f"{source} ({data['name']})")
    return Entry(row=row, column=column, document=made, sweep=read_sweep(made))
