"""A table of methods: what each row reached, at what cost, how it compares on shared seeds; and the same as text."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from importlib.resources import files
from pathlib import Path
from typing import Any

import yaml

from icd.config.space import fixed_part
from icd.errors import UsageError, did_you_mean
from icd.results import sentences
from icd.results.benchmark import Entry, begun, benchmark_plan, benchmark_seeds
from icd.results.outcome import Arm, Comparison, FailedRuns
from icd.results.read_outcome import compared, outcome_of
from icd.results.templating import rendered
from icd.search.sweep_status import status_of

_USUAL_BASELINE = "KD"
FORMATS = ("md", "csv", "tex")
_LATEX = {
    **{letter: rf"\{letter}" for letter in "_&%#${}"},
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """One row for one pair.

    Attributes:
        sweep: Where it was tuned and confirmed.
        arm: What the chosen search trial reached on the shared seeds; without runs before there are any.
        counted: Values by seed as they are compared, with runs that diverged as the plan counts them.
        hours: Of training, search and confirmation, times the GPUs of a trial, or its cores where it has no GPU.
        runs: Tag ``icd.trial`` of each run in MLflow.
        finished: Whether nothing is left to run; a search without a complete trial has nothing to confirm.
    """

    row: str
    column: str
    sweep: str
    arm: Arm
    counted: Mapping[int, float] = field(default_factory=dict)
    trials: int = 0  # of the search
    hours: float = 0.0
    per: str = "CPU"  # or GPU
    test_evaluations: int = 0
    runs: tuple[str, ...] = ()
    reported: float | None = None  # by the paper
    finished: bool = False
    failed_runs: FailedRuns = "left-out"


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """All rows.

    Attributes:
        comparisons: Every row with every baseline row of its pair; two baselines are compared once.
        alpha: Chance of any false difference in the table.
    """

    name: str
    metric: str
    rows: tuple[str, ...]
    columns: tuple[str, ...]  # teacher-student pairs
    cells: tuple[Cell, ...]
    comparisons: tuple[Comparison, ...]
    alpha: float
    seeds: int  # planned for each row
    finished: bool
    statement: str

    def to_data(self) -> dict[str, Any]:
        """Write it for JSON."""
        return asdict(self)

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
    alpha: float = 0.05,
) -> Table:
    """Read what the entries' sweeps hold.

    Args:
        name: Of the file.
        entries: Rows and pairs.
        root: Folder of results.
        seeds: Planned for each row; see ``benchmark_seeds``.
        against: Baseline rows; KD, or the first row, by default.
        alpha: Chance of any false difference.

    Raises:
        StateError: If the table was begun with another number of seeds, or a sweep is another one.
        UsageError: For a baseline that is no row.
    """
    rows = tuple(dict.fromkeys(entry.row for entry in entries))
    baselines = tuple(dict.fromkeys(against)) or ((_USUAL_BASELINE,) if _USUAL_BASELINE in rows else rows[:1])
    for label in baselines:
        if label not in rows:
            raise UsageError(f"--against must name rows of the table, but got {label!r}; {did_you_mean(label, rows)}")
    planned = len(benchmark_seeds(entries, root, seeds))
    cells = tuple(_cell(entry, root) for entry in entries)
    comparisons = _comparisons(cells, baselines, alpha)
    return Table(
        name=name,
        metric="test/top1",
        rows=rows,
        columns=tuple(dict.fromkeys(cell.column for cell in cells)),
        cells=cells,
        comparisons=comparisons,
        alpha=alpha,
        seeds=planned,
        finished=all(cell.finished for cell in cells),
        statement=_statement(cells, comparisons, baselines, alpha),
    )


def _cell(entry: Entry, root: Path) -> Cell:
    label = f"{entry.row} ({entry.column})" if entry.column else entry.row
    cell = Cell(
        row=entry.row,
        column=entry.column or "all",
        sweep=entry.sweep.name,
        arm=Arm(label=label, kind="finalist"),
        reported=_reported(entry),
    )
    ledger = begun(root, entry)
    if ledger is None:
        return cell
    records, plan = ledger.records(), benchmark_plan(ledger)
    gpus = float(ledger.attributes.get("gpus_per_trial") or 0.0)
    seconds = sum(float(record.attributes.get("seconds", 0.0)) for record in records)
    units = (gpus or entry.sweep.resources.cpus_per_trial) / 3600
    cell = replace(cell, trials=sum(record.counts for record in records), per="GPU" if gpus else "CPU")
    found = None if plan is None else outcome_of(ledger, "confirm", plan.round)
    if plan is None or found is None:
        status = status_of(root, ledger.name)
        return replace(cell, hours=units * seconds, finished=status.state == "finished" and status.best is None)
    arm = replace(found.arms[0], label=label)
    (own,) = plan.values(ledger.records("confirm")).values()
    return replace(
        cell,
        arm=arm,
        counted={seed: value for (_, seed), value in own.items()},
        hours=units * (seconds + found.seconds),
        test_evaluations=found.test_evaluations,
        runs=tuple(f"{ledger.attributes['uid']}/{run.trial:04d}" for run in arm.runs),
        finished=found.finished,
        failed_runs=found.failed_runs,
    )


def _reported(entry: Entry) -> float | None:
    fixed = fixed_part(entry.sweep.template) or {}  # a network that is searched is not there
    data, teacher, student = (_named(fixed.get(part)) for part in ("data", "teacher", "student"))
    return reported(data, teacher, student, entry.row)


def reported(data: str, teacher: str, student: str, row: str) -> float | None:
    """Give a paper's top-1 for a row of its table, from ``reported.yaml``; None where no paper has it."""
    papers = yaml.safe_load((files("icd.results") / "reported.yaml").read_text(encoding="utf-8"))
    found = papers.get(data, {}).get(f"{teacher} > {student}", {}).get(row)
    return None if found is None else float(found)


def _named(value: Any) -> str:
    return str(value.get("name") or value.get("arch", "")) if isinstance(value, Mapping) else str(value or "")


def _comparisons(cells: Sequence[Cell], baselines: Sequence[str], alpha: float) -> tuple[Comparison, ...]:
    """Compare within each pair, once all its rows have their runs; the pairs share alpha.

    Every row is compared with every baseline, two baselines once: the later one with the earlier.
    """
    columns = list(dict.fromkeys(cell.column for cell in cells))
    found: list[Comparison] = []
    for column in columns:
        own = [cell for cell in cells if cell.column == column]
        values = {(cell.row, ""): {("", seed): value for seed, value in cell.counted.items()} for cell in own}
        earlier = {row: baselines[:place] for place, row in enumerate(baselines)}
        pairs = [(cell.row, other) for cell in own for other in earlier.get(cell.row, baselines)]
        finished = all(cell.finished for cell in own)
        found += compared(values, pairs, alpha=alpha, finished=finished, families=len(columns), column=column)
    return tuple(found)


def _statement(cells: Sequence[Cell], comparisons: Sequence[Comparison], baselines: Sequence[str], alpha: float) -> str:
    lines = []
    for column in dict.fromkeys(cell.column for cell in cells):
        known = [cell for cell in cells if cell.column == column and cell.arm.mean is not None]
        if not known:
            continue
        top = max(known, key=lambda cell: cell.arm.mean or 0.0)
        where = "" if column == "all" else f"{column}: "
        lines.append(f"{where}{top.row} has the highest mean, {top.arm.mean:.2f} %.")
        for baseline in baselines:
            own = [item for item in comparisons if (item.against, item.column) == (baseline, column)]
            lines += [f"{where}{words}" for words in sentences.ranked(baseline, own)]
    if not lines:
        return "No row has a result yet."
    judged = any(item.verdict != "open" for item in comparisons)
    rate = [sentences.error_rate(len(comparisons), alpha, "table")] if judged else []
    lost = [words for cell in cells for words in sentences.failures([cell.arm], cell.failed_runs)]
    return " ".join([*lines, *rate, *lost])


def written(table: Table, ending: str) -> str:
    """Write a table in one of the formats.

    Markdown has mean and spread first, then each comparison, then where it comes from; LaTeX one column for each pair,
    reported numbers in small type, runs as comments; CSV one line for each row, pair and baseline.
    """
    baselines = list(dict.fromkeys(item.against for item in table.comparisons))
    filters = {
        "cell": lambda text: text.replace("|", r"\|"),
        "latex": lambda text: "".join(_LATEX.get(letter, letter) for letter in text),
        "quoted": lambda text: '"{}"'.format(str(text).replace('"', '""')),
    }
    return rendered(f"benchmark.{ending}.j2", table=table, baselines=baselines, runs_of=_runs, filters=filters)


def _runs(cell: Cell) -> str:
    """Say where a cell comes from; its runs are found in MLflow by their tag."""
    where = f"{cell.row}, {cell.column}: sweep {cell.sweep}"
    if cell.arm.trial is None:
        return f"{where}, nothing confirmed"
    runs = [f"{run.seed} {tag}" for run, tag in zip(cell.arm.runs, cell.runs, strict=True)]
    return f"{where}, trial {cell.arm.trial}; icd.trial of its MLflow runs by seed: {', '.join(runs) or 'none'}"
