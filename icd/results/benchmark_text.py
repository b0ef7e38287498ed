"""A table of methods as Markdown for people, LaTeX (booktabs) for a paper and CSV for programs, by templates."""

from icd.results.benchmark_table import Cell, Table
from icd.results.templating import rendered

FORMATS = ("md", "csv", "tex")
_LATEX = {
    **{letter: rf"\{letter}" for letter in "_&%#${}"},
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
}


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
