"""``icd sweep`` and ``icd resume``."""

import logging
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from icd import search
from icd.cli.live import LiveDisplay
from icd.cli.main import write_json
from icd.cli.options import ENGINE, place_options, places, table_options
from icd.cli.show import JSON, NAME, SET, status_lines
from icd.cli.stopping import stop_requested, stopping_politely
from icd.cli.submit import remote_options
from icd.errors import SetupError, TrialsFailedError, UsageError
from icd.results.report import write_report
from icd.search.pareto import pareto_front
from icd.search.ray_address import refuse_other_forms
from icd.search.reading import SweepStatus, counts_of, trial_row
from icd.search.studies import pasted
from icd.search.sweeps import SweepResult

logger = logging.getLogger(__name__)

F = TypeVar("F", bound=Callable[..., Any])


EXTEND = click.option("--extend", is_flag=True, help="Allow another budget than the sweep was begun with.")


def _checked_address(context: click.Context, parameter: click.Parameter, address: str) -> str:
    """Refuse at once what no cluster can be joined by."""
    if "://" in address:
        try:
            refuse_other_forms(address)
        except SetupError as error:
            raise UsageError(str(error)) from None
    return address


def executor_options(command: F) -> F:
    """``--executor``, ``--address`` and ``--engine``."""
    for option in (
        ENGINE,
        click.option(
            "--address",
            default="local",
            show_default=True,
            callback=_checked_address,
            help="Ray cluster: local, auto, or HOST:PORT of its GCS, from a machine that runs a node of it.",
        ),
        click.option(
            "--executor",
            type=click.Choice(["ray", "process"]),
            default="ray",
            show_default=True,
            help="Ray Tune, or plain processes on this machine.",
        ),
    ):
        command = option(command)
    return command


@click.command()
@click.argument("file", type=click.Path(path_type=Path))
@SET
@click.option("--name", help="Another name for the sweep than the file's.")
@EXTEND
@executor_options
@table_options
@JSON
@place_options
@remote_options
def sweep(file: Path, overrides: tuple[str, ...], name: str | None, as_json: bool, **options: Any) -> None:
    """Run the sweep in FILE until its budget is used.

    The same command again goes on where it was left. Everything is kept in ROOT/sweeps/NAME, ROOT/study.db and MLflow.
    """
    _run(lambda **more: search.sweep(file, overrides, name=name, **more), options, as_json=as_json)


@click.command()
@NAME
@SET
@EXTEND
@click.option("--retry-failed", is_flag=True, help="Train the trials that failed again, once the cause is mended.")
@executor_options
@table_options
@JSON
@place_options
@remote_options
def resume(name: str, overrides: tuple[str, ...], as_json: bool, **options: Any) -> None:
    """Go on with sweep NAME as it was begun, without its file.

    To spend more: icd resume NAME --extend --set search.budget.trials=40
    """
    _run(lambda **more: search.resume(name, overrides, **more), options, as_json=as_json)


def _run(begin: Callable[..., SweepResult], options: dict[str, Any], *, as_json: bool) -> None:
    where = places(options.pop("root"), options.pop("data_root"), download=options["download"])
    with stopping_politely(), LiveDisplay(sys.stderr) as display:
        result = begin(
            root=where.root,
            data_root=where.data_root,
            announce=display.announce,
            watch=display.watch,
            stop=stop_requested,
            report=write_report,
            **options,
        )
    status = search.status(result.name, root=where.root)
    if as_json:
        write_json(result_data(result, status))
    else:
        hints = _where_to_look(result, where.root, several_pairs=status.ranked is not None)
        for line in [*status_lines(status, result.records), "", *hints]:
            click.echo(line)
    if result.pending:
        logger.warning("%d events wait for MLflow: '%s'", result.pending, pasted(where.root, "flush", result.name))
    if result.failed_too_often:
        failed, tried = counts_of(result.records)["failed"], len(result.records)
        raise TrialsFailedError(
            f"{failed} of {tried} trials of sweep {result.name!r} failed, more than budget.max_failed_fraction allows; "
            f"see '{pasted(where.root, 'trials', result.name, '--state', 'failed')}'"
        )


def result_data(result: SweepResult, status: SweepStatus) -> dict[str, Any]:
    """Write the end of a sweep for programs."""
    return {
        "name": result.name,
        "folder": str(result.folder),
        "stopped_by": result.stopped_by,
        "counts": counts_of(result.records),
        "best": trial_row(result.best, status.metrics) if result.best else None,
        "front": [record.number for record in pareto_front(result.records, status.directions)],
        "baselines": [trial_row(record, status.metrics) for record in result.records if record.baseline],
        "failed_too_often": result.failed_too_often,
        "pending": result.pending,
        "tracking": result.tracking,
    }


def _where_to_look(result: SweepResult, root: Path, *, several_pairs: bool) -> list[str]:
    name = result.name
    best = f"take the best:   {pasted(root, 'export', name, '-o', 'best.yaml', '--unconfirmed')}"
    pairs = f"compare it:      {pasted(root, 'specialists', name, 'ONE', 'OTHER', '...')}"
    return [
        f"look at it:      {pasted(root, 'ui', name)}",
        f"list its trials: {pasted(root, 'trials', name)}",
        f"read about it:   {pasted(root, 'report', name)}",
        f"confirm it:      {pasted(root, 'confirm', name)}",
        pairs if several_pairs else best,
        f"in {result.folder}; MLflow: {result.tracking}",
    ]
