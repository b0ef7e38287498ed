"""A table of methods: what each row reached, at what cost, how it compares on shared seeds; and the same as text."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal

import yaml

from icd.config.document import full_form
from icd.config.space import fixed_part
from icd.config.trial import differences
from icd.errors import StateError, UsageError, did_you_mean
from icd.results.benchmark import JUDGING, Entry, begun, benchmark_plan, benchmark_seeds
from icd.results.outcome import Arm, Comparison
from icd.results.read_outcome import compared, shown_by
from icd.results.words import rendered
from icd.search.core.device_usage import device_hours
from icd.search.sweep_status import status_of

_USUAL_BASELINE, _USUAL_ALPHA = "KD", 0.05
FORMATS = ("md", "csv", "tex")
_LATEX = str.maketrans(
    {letter: rf"\{letter}" for letter in "_&%#${}"}
    | {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
    | {"<": r"\textless{}", ">": r"\textgreater{}"}
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """One row for one pair.

    Attributes:
        hours: Of training, search and confirmation, times the GPUs of a trial, or its cores where it has no GPU.
        finished: Whether nothing is left to run; a search without a complete trial has nothing to confirm.
    """

    row: str
    column: str
    sweep: str  # where it was tuned and confirmed
    arm: Arm  # what the chosen search trial reached on the shared seeds
    trials: int = 0  # of the search
    hours: float = 0.0
    per: str = "CPU"  # or GPU
    test_evaluations: int = 0
    test_images: int = 0  # 0 for not known
    runs: tuple[str, ...] = ()  # tag ``icd.trial`` of each in MLflow
    reported: float | None = None  # by the paper
    finished: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """All rows, and every row with every baseline row of its pair; two baselines are compared once."""

    name: str
    metric: str
    rows: tuple[str, ...]
    columns: tuple[str, ...]  # teacher-student pairs
    cells: tuple[Cell, ...]
    comparisons: tuple[Comparison, ...]
    alpha: float  # chance of any false difference in the table
    seeds: int  # planned for each row
    finished: bool
    baselines: tuple[str, ...] = ()  # rows that every row is compared with
    begun_otherwise: tuple[str, ...] = ()  # what differs from what it was judged by when its runs were begun
    statement: str = ""

    @property
    def judged(self) -> int:
        """How many comparisons have a verdict: these are the family that shares alpha."""
        return sum(item.p is not None for item in self.comparisons)

    @property
    def judging(self) -> dict[str, Any]:
        """What it is judged by, as plain data."""
        labels = sorted(cell.arm.label for cell in self.cells)
        return {"against": [*self.baselines], "alpha": self.alpha, "rows": labels}

    def cell(self, row: str, column: str) -> Cell:
        """Give a row's cell for a pair."""
        return next(cell for cell in self.cells if (cell.row, cell.column) == (row, column))

    def against(self, row: str, column: str) -> list[Comparison]:
        """Give a row's comparisons for a pair."""
        return [item for item in self.comparisons if (item.arm, item.column) == (row, column)]


def read_benchmark(
    name: str,
    entries: Sequence[Entry],
    root: Path,
    *,
    seeds: int | None = None,
    against: Sequence[str] = (),
    alpha: float | None = None,
    again: bool = False,
) -> Table:
    """Read what the entries' sweeps hold.

    ``name`` is that of the file, ``seeds`` how many are planned for each row; see ``benchmark_seeds``. ``against`` are
    baseline rows, ``alpha`` is the chance of any false difference: by default what the table was begun with, else KD,
    or the first row, and 0.05.

    Raises:
        StateError: If the table was begun with another number of seeds, or with other baselines, rows or alpha unless
            ``again``, or a sweep is another one.
        UsageError: For a baseline that is no row.
    """
    rows, stored = tuple(dict.fromkeys(entry.row for entry in entries)), _stored(entries, root)
    first: Mapping[str, Any] = stored[0] if stored else {"against": [], "alpha": _USUAL_ALPHA}
    usual = [label for label in first["against"] or [_USUAL_BASELINE] if label in rows]
    baselines = tuple(dict.fromkeys(against or usual)) or rows[:1]
    for label in baselines:
        if label not in rows:
            raise UsageError(f"--against must name rows of the table, but got {label!r}; {did_you_mean(label, rows)}")
    planned = len(benchmark_seeds(entries, root, seeds))
    cells, alpha = tuple(_cell(entry, root) for entry in entries), alpha or float(first["alpha"])
    table = Table(
        name=name,
        metric="test/top1",
        rows=rows,
        columns=tuple(dict.fromkeys(cell.column for cell in cells)),
        cells=cells,
        comparisons=_comparisons(cells, baselines, alpha),
        alpha=alpha,
        seeds=planned,
        finished=all(cell.finished for cell in cells),
        baselines=baselines,
    )
    otherwise = tuple(dict.fromkeys(text for old in stored for text in differences(old, table.judging)))
    if otherwise and not again:
        raise StateError(
            f"the table {name!r} was begun otherwise, and its runs may be known; undo, or add --judge-again, which the "
            f"table will say: {'; '.join(otherwise)}"
        )
    table = replace(table, begun_otherwise=otherwise)
    return replace(table, statement=" ".join(rendered("benchmark.txt.j2", table=table, baselines=baselines).split()))


def _stored(entries: Sequence[Entry], root: Path) -> list[Mapping[str, Any]]:
    """Give what a table was judged by when the runs of each row were begun."""
    ledgers = [ledger for entry in entries if (ledger := begun(root, entry)) and benchmark_plan(ledger)]
    return [judging for ledger in ledgers if (judging := ledger.attributes.get(JUDGING))]


def _cell(entry: Entry, root: Path) -> Cell:
    label = f"{entry.row} ({entry.column})" if entry.column else entry.row
    cell = Cell(
        row=entry.row,
        column=entry.column or "all",
        sweep=entry.sweep.name,
        arm=Arm(label=label, kind="finalist"),
        reported=reported(entry.sweep.template, entry.row),
    )
    ledger = begun(root, entry)
    if ledger is None:
        return cell
    records, plan = ledger.records(), benchmark_plan(ledger)
    gpus = float(ledger.attributes.get("gpus_per_trial") or 0.0)
    held: tuple[Literal["cpus", "gpus"], float]
    held = ("gpus", gpus) if gpus else ("cpus", entry.sweep.resources.cpus_per_trial)
    trials, hours = sum(record.counts for record in records), device_hours(records, *held)
    cell = replace(cell, trials=trials, hours=hours, per="GPU" if gpus else "CPU")
    if plan is None:
        status = status_of(root, ledger.name)
        return replace(cell, finished=status.state == "finished" and status.best is None)
    found = shown_by(ledger, plan)
    confirmed = plan.records(ledger.records("confirm"))
    return replace(
        cell,
        arm=replace(found.arms[0], label=label),
        hours=hours + device_hours(confirmed, *held),
        test_evaluations=found.test_evaluations,
        test_images=int(ledger.attributes.get("test_images", 0)),
        runs=tuple(f"{ledger.attributes['uid']}/{run.trial:04d}" for run in found.arms[0].runs),
        finished=found.finished,
    )


def reported(template: Mapping[str, Any], row: str) -> float | None:
    """Give a paper's top-1 for a row of its table, from ``reported.yaml``; None where no paper has it."""
    papers = yaml.safe_load((files("icd.results") / "reported.yaml").read_text(encoding="utf-8"))
    fixed = fixed_part(template) or {}  # a network that is searched is not there
    data, teacher, student = (full_form(part, fixed.get(part)) or {} for part in ("data", "teacher", "student"))
    pair = f"{teacher.get('arch')} > {student.get('arch')}"
    found = papers.get(data.get("name"), {}).get(pair, {}).get(row)
    return None if found is None else float(found)


def _comparisons(cells: Sequence[Cell], baselines: Sequence[str], alpha: float) -> tuple[Comparison, ...]:
    """Compare within each pair, once all its rows have their runs; the pairs share alpha.

    Every row is compared with every baseline, two baselines once: the later one with the earlier.
    """
    columns = list(dict.fromkeys(cell.column for cell in cells))
    found: list[Comparison] = []
    for column in columns:
        own = [cell for cell in cells if cell.column == column]
        values = {(cell.row, ""): cell.arm.by_seed for cell in own}
        earlier = {row: baselines[:place] for place, row in enumerate(baselines)}
        pairs = [(cell.row, other) for cell in own for other in earlier.get(cell.row, baselines)]
        shared: Any = {"images": own[0].test_images, "families": len(columns)}
        judged = compared(values, pairs, alpha=alpha, finished=all(cell.finished for cell in own), **shared)
        found += [replace(item, column=column) for item in judged]
    return tuple(found)


def written(table: Table, ending: str) -> str:
    """Write a table in one of the formats.

    Markdown has mean and spread first, then each comparison, then where it comes from; LaTeX one column for each pair,
    reported numbers in small type, runs as comments; CSV one line for each row, pair and baseline.
    """
    baselines = list(dict.fromkeys(item.against for item in table.comparisons))
    filters = {"latex": lambda text: text.translate(_LATEX)}
    return rendered(f"benchmark.{ending}.j2", table=table, baselines=baselines, filters=filters)
