"""A table of methods as Markdown, CSV and LaTeX."""

import csv
import io
from collections.abc import Callable, Mapping

from icd.results.benchmark_table import Cell, Table
from icd.results.outcome import Comparison

_MARKS = {"better": "+", "worse": "-"}
_LATEX_MARKS = {"better": "^{+}", "worse": "^{-}"}
_LATEX_LETTERS = {
    **{letter: rf"\{letter}" for letter in "_&%#${}"},
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
}
_COLUMNS = (
    "row", "pair", "mean", "sd", "n", "values", "trials", "hours", "per", "test_evaluations", "reported", "against",
    "difference", "low", "high", "p", "verdict", "sweep", "trial", "icd_trials", "mlflow_runs",
)  # fmt: skip


def markdown(table: Table) -> str:
    """Write it for people: mean and spread first, then each comparison, then where it comes from."""
    baselines = list(dict.fromkeys(item.against for item in table.comparisons))
    heads = ["method", "top-1, mean ± sd (n)", *(f"minus {label}" for label in baselines)]
    heads += ["paper reports", "trials", "hours"]
    lines = [f"# {table.name}: top-1 (%) on test images, last epoch", ""]
    for column in table.columns:
        if len(table.columns) > 1:
            lines += [f"## {column}", ""]
        lines += [_line(heads), _line(["---", *["---:"] * (len(heads) - 1)])]
        for row in table.rows:
            cell = table.cell(row, column)
            by_baseline = {item.against: item for item in table.against(row, column)}
            against = [_difference(by_baseline.get(label)) for label in baselines]
            paper = "" if cell.reported is None else f"{cell.reported:.2f}"
            cost = [str(cell.trials), f"{cell.hours:.2f} {cell.per}"]
            lines.append(_line([row, _value(cell), *against, paper, *cost]))
        lines.append("")
    return "\n".join([*lines, table.statement, "", *_notes(table), "", *_runs(table), ""])


def as_csv(table: Table) -> str:
    """Write it for programs: one line for each row, pair and baseline."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(_COLUMNS)
    for cell in table.cells:
        compared: list[Comparison | None] = [*table.against(cell.row, cell.column)]
        for item in compared or [None]:
            values = " ".join(f"{seed}:{value:.4f}" for seed, value in cell.values.items())
            own = [cell.row, cell.column, _number(cell.mean), _number(cell.sd), len(cell.values), values, cell.trials]
            own += [f"{cell.hours:.4f}", cell.per, cell.test_evaluations, _number(cell.reported)]
            against: list[object] = [""] * 6
            if item is not None:
                ends = [_number(end) for end in (item.difference, item.low, item.high)]
                against = [item.against, *ends, "" if item.p is None else f"{item.p:.6g}", item.verdict]
            trial = "" if cell.trial is None else cell.trial
            runs = [" ".join(cell.runs), " ".join(known or "-" for known in cell.mlflow_runs)]
            writer.writerow([*own, *against, cell.sweep, trial, *runs])
    return text.getvalue()


def latex(table: Table) -> str:
    """Write it for a paper (booktabs): one column for each pair, reported numbers in small type; runs are comments."""
    heads = [_escaped(column) for column in table.columns] if len(table.columns) > 1 else [r"top-1 (\%)"]
    baseline = next((item.against for item in table.comparisons), None)
    marks = f"; + and - mark differences from {baseline}" if baseline else ""
    lines = [
        rf"% {table.name}: top-1 (%) on test images, mean and sd over {table.seeds} seeds, last epoch{marks}",
        rf"% where the chance of any false one among {len(table.comparisons)} comparisons is {table.alpha:g}",
        *(f"% {_runs_line(cell)}" for cell in table.cells),
        rf"\begin{{tabular}}{{l{'c' * len(table.columns)}}}",
        r"\toprule",
        " & ".join(["method", *heads]) + r" \\",
        r"\midrule",
    ]
    for row in table.rows:
        cells = [_latex_cell(table.cell(row, column), table.against(row, column), baseline) for column in table.columns]
        lines.append(" & ".join([_escaped(row), *cells]) + r" \\")
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", ""])


FORMATS: Mapping[str, Callable[[Table], str]] = {"md": markdown, "csv": as_csv, "tex": latex}


def _line(cells: list[str]) -> str:
    return "| " + " | ".join(cell.replace("|", r"\|") for cell in cells) + " |"


def _value(cell: Cell) -> str:
    if cell.mean is None:
        return "no result"
    spread = "" if cell.sd is None else f" ± {cell.sd:.2f}"
    failed = f", {len(cell.failures)} failed" if cell.failures else ""
    return f"{cell.mean:.2f}{spread} ({len(cell.values)}{failed})"


def _difference(item: Comparison | None) -> str:
    if item is None or item.difference is None:
        return ""
    interval = f" [{item.interval}]" if item.interval else ""
    p = "" if item.p is None else f", p {item.p:.2g}"
    return f"{item.difference:+.2f}{interval}{p} {_MARKS.get(item.verdict, '')}".strip()


def _runs(table: Table) -> list[str]:
    lines = ["## Runs", "", *(f"- {_runs_line(cell)}" for cell in table.cells)]
    return [*lines, "", f"Some runs have no id here: {table.untracked}."] if table.untracked else lines


def _runs_line(cell: Cell) -> str:
    """Say where a cell comes from; a run without an id is found by its tag."""
    ids = cell.mlflow_runs or ("",) * len(cell.runs)
    runs = [
        f"{seed} {known or f'icd.trial={tag}'}" for seed, known, tag in zip(cell.values, ids, cell.runs, strict=True)
    ]
    where = f"{cell.row}, {cell.column}: sweep {cell.sweep}"
    if cell.trial is None:
        return f"{where}, nothing confirmed"
    return f"{where}, trial {cell.trial}; MLflow runs by seed: {', '.join(runs) or 'none'}"


def _notes(table: Table) -> list[str]:
    evaluations = sum(cell.test_evaluations for cell in table.cells)
    done = "" if table.finished else " The table is not finished."
    how = (
        f"Intervals, p-values and marks hold together for the whole table: the chance of any false difference in it is "
        f"{table.alpha:g}. {evaluations} test evaluations. Every row had the same budget of trials "
        "where it has something to tune. Hours are of training, times the GPUs of a trial, or its cores where it has "
        "no GPU. Numbers that a paper reports are of its best test epoch and are not comparable."
    )
    return [how + done]


def _latex_cell(cell: Cell, compared: list[Comparison], baseline: str | None) -> str:
    if cell.mean is None:
        return "--"
    spread = "" if cell.sd is None else rf" \pm {cell.sd:.2f}"
    mark = "".join(_LATEX_MARKS.get(item.verdict, "") for item in compared if item.against == baseline)
    paper = "" if cell.reported is None else rf" {{\scriptsize ({cell.reported:.2f} reported)}}"
    return rf"${cell.mean:.2f}{spread}{mark}${paper}"


def _escaped(text: str) -> str:
    return "".join(_LATEX_LETTERS.get(letter, letter) for letter in text)


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"
