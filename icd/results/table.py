"""A table of methods as plain values: what each row reached, at what cost, and how it compares on shared seeds."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from icd.config.space import fixed_part
from icd.errors import UsageError, did_you_mean
from icd.results.confirmation import Verdict
from icd.results.reported import reported
from icd.results.sequential import SequentialTest, decide
from icd.results.statistics import paired
from icd.results.tournament import Entry, begun, table_confirmation, table_seeds
from icd.search.mlflow_store import run_ids
from icd.search.reading import status_of
from icd.search.studies import tracking_uri
from icd.search.study import Ledger

_USUAL_BASELINE = "KD"
_WAIT_S = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """One row for one pair.

    Attributes:
        row: Name of the method.
        column: Teacher and student.
        sweep: Where it was tuned and confirmed.
        trial: The search trial that was chosen.
        values: Top-1 (%) on the test images after the last epoch, by seed.
        mean: Of them.
        sd: Sample standard deviation.
        trials: That the search spent.
        hours: Of training, search and confirmation, times the GPUs of a trial, or its cores where it has no GPU.
        per: ``GPU`` or ``CPU``.
        looks: At test images.
        runs: Tag ``icd.trial`` of each value's run in MLflow.
        mlflow_runs: Id of each of these runs, empty where it was not found; nothing before ``with_run_ids``.
        reported: What the paper reports.
        finished: Whether nothing is left to run; a search without a complete trial has nothing to confirm.
        failures: Seed and reason of runs without a value.
    """

    row: str
    column: str
    sweep: str
    trial: int | None
    values: Mapping[int, float]
    mean: float | None
    sd: float | None
    trials: int
    hours: float
    per: str
    looks: int
    runs: tuple[str, ...]
    reported: float | None
    finished: bool = False
    mlflow_runs: tuple[str, ...] = ()
    failures: Mapping[int, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Compared:
    """A row against a baseline row of the same pair, paired by seed."""

    row: str
    baseline: str
    column: str
    n: int
    mean: float
    low: float | None
    high: float | None
    p_holm: float
    verdict: Verdict


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """All rows.

    Attributes:
        name: Of the file.
        metric: ``test/top1``.
        rows: In the file's order.
        columns: Pairs.
        cells: One for each row and pair.
        compared: Every row with every baseline row, where both have values; two baselines are compared once.
        comparisons: Over how many Holm's correction goes: also those that lack values count.
        alpha: Chance of any false difference in the table.
        seeds: Planned for each row.
        finished: Whether every row has all its runs.
        statement: The finding in plain words.
        untracked: Why a run's id is not known, where one is not.
    """

    name: str
    metric: str
    rows: tuple[str, ...]
    columns: tuple[str, ...]
    cells: tuple[Cell, ...]
    compared: tuple[Compared, ...]
    comparisons: int
    alpha: float
    seeds: int
    finished: bool
    statement: str
    untracked: str = ""

    def to_data(self) -> dict[str, Any]:
        """Write it for JSON."""
        return asdict(self)

    def cell(self, row: str, column: str) -> Cell:
        """Give a row's cell for a pair."""
        return next(cell for cell in self.cells if (cell.row, cell.column) == (row, column))

    def against(self, row: str, column: str) -> list[Compared]:
        """Give a row's comparisons for a pair."""
        return [item for item in self.compared if (item.row, item.column) == (row, column)]


def read_table(
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
        seeds: Planned for each row; see ``table_seeds``.
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
    planned = len(table_seeds(entries, root, seeds))
    cells = tuple(_cell(entry, root) for entry in entries)
    pairs = _pairs(cells, baselines)
    compared = _compared(pairs, planned, alpha)
    return Table(
        name=name,
        metric="test/top1",
        rows=rows,
        columns=tuple(dict.fromkeys(cell.column for cell in cells)),
        cells=cells,
        compared=compared,
        comparisons=len(pairs),
        alpha=alpha,
        seeds=planned,
        finished=all(cell.finished for cell in cells),
        statement=_statement(cells, compared, baselines, len(pairs)),
    )


def with_run_ids(table: Table, root: Path) -> Table:
    """Ask MLflow for the ids of the runs; it has ten seconds, and without an answer the tags alone must do."""
    uids = {cell.sweep: cell.runs[0].partition("/")[0] for cell in table.cells if cell.runs}
    ids, why = run_ids(tracking_uri(root), uids, "confirm", wait_s=_WAIT_S) if uids else ({}, "")
    cells = tuple(replace(cell, mlflow_runs=tuple(ids.get(tag, "") for tag in cell.runs)) for cell in table.cells)
    if not why and not all(all(cell.mlflow_runs) for cell in cells):
        why = "MLflow has not been told of all of them, see 'icd flush'"
    return replace(table, cells=cells, untracked=why)


def _cell(entry: Entry, root: Path) -> Cell:
    ledger = begun(root, entry)
    if ledger is None:
        return _empty(entry)
    found, records = table_confirmation(ledger), ledger.records()
    spent = sum(float(record.attributes.get("seconds", 0.0)) for record in records) + (found.seconds if found else 0.0)
    gpus = float(ledger.attributes.get("gpus_per_trial") or 0.0)
    units = gpus or entry.sweep.resources.cpus_per_trial
    arm = found.arms[0] if found else None
    return Cell(
        row=entry.row,
        column=_column(entry),
        sweep=ledger.name,
        trial=arm.trial if arm else None,
        values={run.seed: run.value for run in arm.runs} if arm else {},
        mean=arm.mean if arm else None,
        sd=arm.sd if arm else None,
        trials=sum(record.counts for record in records),
        hours=units * spent / 3600,
        per="GPU" if gpus else "CPU",
        looks=found.looks if found else 0,
        runs=_tags(ledger, [run.trial for run in arm.runs]) if arm else (),
        reported=_reported(entry),
        finished=found.finished if found else _nothing_to_confirm(ledger, root),
        failures=dict(arm.failures) if arm else {},
    )


def _empty(entry: Entry) -> Cell:
    return Cell(
        row=entry.row,
        column=_column(entry),
        sweep=entry.sweep.name,
        trial=None,
        values={},
        mean=None,
        sd=None,
        trials=0,
        hours=0.0,
        per="CPU",
        looks=0,
        runs=(),
        reported=_reported(entry),
    )


def _nothing_to_confirm(ledger: Ledger, root: Path) -> bool:
    status = status_of(root, ledger.name)
    return status.state == "finished" and status.best is None


def _tags(ledger: Ledger, numbers: Sequence[int]) -> tuple[str, ...]:
    return tuple(f"{ledger.attributes['uid']}/{number:04d}" for number in numbers)


def _column(entry: Entry) -> str:
    return entry.column or "all"


def _reported(entry: Entry) -> float | None:
    fixed = fixed_part(entry.sweep.template) or {}  # a network that is searched is not there
    data, teacher, student = (
        _named(fixed.get(part), key) for part, key in (("data", "name"), ("teacher", "arch"), ("student", "arch"))
    )
    return reported(data, teacher, student, entry.row)


def _named(value: Any, key: str) -> str:
    return str(value.get(key, "")) if isinstance(value, Mapping) else str(value or "")


def _pairs(cells: Sequence[Cell], baselines: Sequence[str]) -> list[tuple[Cell, Cell]]:
    """Pair every cell with the baselines of its column, two baselines once: the later one against the earlier."""

    def compared(cell: Cell, other: Cell) -> bool:
        mirrored = cell.row in baselines and baselines.index(cell.row) < baselines.index(other.row)
        return cell.row != other.row and cell.column == other.column and not mirrored

    return [(cell, other) for cell in cells for other in cells if other.row in baselines and compared(cell, other)]


def _compared(pairs: Sequence[tuple[Cell, Cell]], seeds: int, alpha: float) -> tuple[Compared, ...]:
    shared = [[seed for seed in cell.values if seed in other.values] for cell, other in pairs]
    differences = [
        [cell.values[seed] - other.values[seed] for seed in common]
        for (cell, other), common in zip(pairs, shared, strict=True)
    ]
    test = SequentialTest(planned=seeds, first=seeds, alpha=alpha)
    # A row without a value counts among the comparisons: a single difference is never judged.
    ended = [cell.finished and other.finished for cell, other in pairs]
    decisions = decide(test, [item or [0.0] for item in differences], no_more=ended) if pairs else ()
    return tuple(
        Compared(
            row=cell.row,
            baseline=other.row,
            column=cell.column,
            n=len(item),
            mean=alone.mean,
            low=alone.low,
            high=alone.high,
            p_holm=decision.p_holm,
            verdict=decision.verdict,
        )
        for (cell, other), item, decision in zip(pairs, differences, decisions, strict=True)
        if item
        for alone in (paired(item, 1 - alpha),)
    )


def _statement(cells: Sequence[Cell], compared: Sequence[Compared], baselines: Sequence[str], comparisons: int) -> str:
    lines, counted = [], f"{comparisons} comparison{'' if comparisons == 1 else 's'}"
    for column in dict.fromkeys(cell.column for cell in cells):
        known = [(cell.mean, cell) for cell in cells if cell.column == column and cell.mean is not None]
        if not known:
            continue
        mean, top = max(known, key=lambda item: item[0])
        where = "" if column == "all" else f"{column}: "
        lines.append(f"{where}{top.row} has the highest mean, {mean:.2f} %.")
        for baseline in baselines:
            own = [item for item in compared if item.baseline == baseline and item.column == column]
            if not own:
                continue
            better = [item.row for item in own if item.verdict == "better"]
            worse = [item.row for item in own if item.verdict == "worse"]
            rest = [item.row for item in own if item.verdict not in ("better", "worse")]
            parts = [f"better than {baseline}: {', '.join(better) or 'none'}", f"worse: {', '.join(worse) or 'none'}"]
            parts += [f"no difference shown: {', '.join(rest)}"] if rest else []
            lines.append(f"{where}{'after' if where else 'After'} correction for {counted}, {'; '.join(parts)}.")
    lines += [
        f"{cell.row}{'' if cell.column == 'all' else f' ({cell.column})'} gave no result on seed {seed}: {reason}."
        for cell in cells
        for seed, reason in cell.failures.items()
    ]
    return " ".join(lines) or "No row has a result yet."
