"""``icd report`` and ``icd compare``."""

import logging
import os
from pathlib import Path
from typing import TYPE_CHECKING

import click

from icd.cli.main import write_json
from icd.cli.root import ROOT
from icd.cli.show import JSON, NAME, columns
from icd.cli.submit import remote_option
from icd.errors import StateError
from icd.search import default_root
from icd.search.reading import driver_of
from icd.search.studies import REPORT_NAME, pasted, sweep_folder

if TYPE_CHECKING:
    from icd.results.report.blocks import Page

logger = logging.getLogger(__name__)

_FLUSH_S = 30.0
_WIDEST = 48
_OUTPUT = click.Path(path_type=Path, dir_okay=False)


@click.command()
@NAME
@click.option("-o", "--output", type=_OUTPUT, help=f"HTML file to write [{REPORT_NAME} in the sweep's folder].")
@click.option("--log/--no-log", default=True, help="Whether MLflow is given the report too, where no driver runs.")
@JSON
@ROOT
@remote_option
def report(name: str, output: Path | None, log: bool, as_json: bool, root: Path | None) -> None:
    """Write the report of sweep NAME, however it stands: one HTML file that needs nothing else.

    A report that is there already is replaced. A driver writes and logs one by itself when it leaves.
    """
    from icd.results.report import page_of, write_page
    from icd.results.report.gather import gather

    where = root or default_root()
    page = page_of(gather(where, name))
    target = output or sweep_folder(where, name) / REPORT_NAME
    write_page(target, page)
    if not as_json:
        click.echo(str(target))
    pending = _log(where, name, page) if log else None
    if as_json:
        write_json({"name": name, "path": str(target), "logged": pending == 0, "pending": pending})


def _log(root: Path, name: str, page: "Page") -> int | None:
    """Give MLflow the report from the sweep's folder; how many events it has not taken, None if it was not asked."""
    from icd.results.report import write_page
    from icd.results.report.logged import has_runs, log_report

    if not has_runs(root, name):
        return None
    driver = driver_of(root, name)
    if driver is not None:
        logger.info("not logged: %s drives the sweep, and logs a report when it leaves", driver)
        return None
    folder = sweep_folder(root, name)
    if not os.access(folder, os.W_OK):
        logger.info("not logged: %s cannot be written", folder)
        return None
    write_page(folder / REPORT_NAME, page)
    try:
        pending = log_report(root, name, _FLUSH_S, logger.info)
    except StateError as error:  # a driver has begun meanwhile
        logger.info("not logged: %s", error)
        return None
    if pending:
        logger.warning("the report waits for MLflow (%d events): '%s'", pending, pasted(root, "flush", name))
    return pending


@click.command()
@click.argument("names", nargs=-1, required=True)
@click.option("-o", "--output", type=_OUTPUT, help="HTML file to write.")
@JSON
@ROOT
@remote_option
def compare(names: tuple[str, ...], output: Path | None, as_json: bool, root: Path | None) -> None:
    """Put the sweeps NAMES side by side: what differs, what was found, and whether it may be compared."""
    from icd.results.compare import compare as compare_sweeps

    if len(set(names)) < max(2, len(names)):
        raise click.UsageError(f"compare takes at least two different sweeps, but got {' '.join(names)}")
    found = compare_sweeps(root or default_root(), names)
    if output is not None:
        from icd.results.report import write_page
        from icd.results.report.comparison import comparison_page

        write_page(output, comparison_page(found))
    if as_json:
        write_json(found.to_data())
        return
    for words in found.warnings:
        click.echo(f"not comparable: {words}")
    for title, rows in (("found", found.figures), ("differs", found.differences)):
        if rows:
            headers = [title, *found.names]
            cells = [[_cut(cell or "-") for cell in (row, *values)] for row, values in rows.items()]
            click.echo("\n".join(["", *columns(headers, cells, left=headers)]))
    if output is not None:
        click.echo(f"\n{output}")


def _cut(text: str) -> str:
    return text if len(text) <= _WIDEST else f"{text[: _WIDEST - 3]}..."
