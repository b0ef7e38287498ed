"""A table of methods as Markdown and LaTeX, by templates, and as CSV."""

import csv
import io
from collections.abc import Callable, Mapping

from icd.results.benchmark_table import Cell, Table
from icd.results.outcome import Comparison
from icd.results.templating import rendered

_LATEX = {
    **{letter: rf"\{letter}" for letter in "_&%#${}"},
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
}


def markdown(table: Table) -> str:
    """Write it for people: mean and spread first, then each comparison, then where it comes from."""
    return _written("benchmark.md.j2", table)


def latex(table: Table) -> str:
    """Write it for a paper (booktabs): one column for each pair, reported numbers in small type; runs are comments."""
    return _written("benchmark.tex.j2", table)


def as_csv(table: Table) -> str:
    """Write it for programs: one line for each row, pair and baseline."""
    rows = []
    for cell in table.cells:
        items: list[Comparison | None] = [*table.against(cell.row, cell.column)]
        rows += [_fields(cell) | _differences(item) for item in items or [None]]
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]) if rows else [], lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


FORMATS: Mapping[str, Callable[[Table], str]] = {"md": markdown, "csv": as_csv, "tex": latex}


def _written(template: str, table: Table) -> str:
    baselines = list(dict.fromkeys(item.against for item in table.comparisons))
    filters = {
        "cell": lambda text: text.replace("|", r"\|"),
        "latex": lambda text: "".join(_LATEX.get(letter, letter) for letter in text),
    }
    return rendered(template, table=table, baselines=baselines, runs_of=_runs, filters=filters)


def _runs(cell: Cell) -> str:
    """Say where a cell comes from; its runs are found in MLflow by their tag."""
    where = f"{cell.row}, {cell.column}: sweep {cell.sweep}"
    if cell.arm.trial is None:
        return f"{where}, nothing confirmed"
    runs = [f"{run.seed} {tag}" for run, tag in zip(cell.arm.runs, cell.runs, strict=True)]
    return f"{where}, trial {cell.arm.trial}; icd.trial of its MLflow runs by seed: {', '.join(runs) or 'none'}"


def _fields(cell: Cell) -> dict[str, object]:
    arm = cell.arm
    return {
        "row": cell.row,
        "pair": cell.column,
        "mean": _number(arm.mean),
        "sd": _number(arm.sd),
        "n": len(arm.runs),
        "values": " ".join(f"{run.seed}:{run.value:.4f}" for run in arm.runs),
        "trials": cell.trials,
        "hours": _number(cell.hours),
        "per": cell.per,
        "test_evaluations": cell.test_evaluations,
        "reported": _number(cell.reported),
        "sweep": cell.sweep,
        "trial": arm.trial,
        "icd_trials": " ".join(cell.runs),
    }


def _differences(item: Comparison | None) -> dict[str, object]:
    if item is None:
        return dict.fromkeys(("against", "difference", "low", "high", "p", "verdict"))
    ends = {name: _number(getattr(item, name)) for name in ("difference", "low", "high")}
    return {"against": item.against, **ends, "p": "" if item.p is None else f"{item.p:.6g}", "verdict": item.verdict}


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"
