"""``icd plan | sweep | resume | stop | sync``."""

import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from icd.cli.format import concordance_text, params_text, status_lines, write
from icd.cli.options import DRIVE, FILE, JSON, NAME, READ, RENAME, ROOT, SET, SUBMIT, WHERE, Verb, waits
from icd.errors import SetupError, TrialsFailedError
from icd.text import columns, plural, runs_wait, size_text

if TYPE_CHECKING:
    from icd.search.foresight import Foresight
    from icd.search.planning import Plan
    from icd.search.run_sweep import SweepResult
    from icd.search.suggest.search_space import Start
    from icd.search.sweep_status import SweepStatus

logger = logging.getLogger(__name__)

_EXTEND = click.option("--extend", is_flag=True, help="Allow another budget than the sweep was begun with.")


@click.command(cls=Verb)
@FILE
@RENAME
@_EXTEND
@DRIVE
def sweep(file: Path, overrides: tuple[str, ...], name: str | None, as_json: bool, **options: Any) -> None:
    """Run the sweep in FILE until its budget is used.

    The same command again goes on where it was left. Everything is kept in ROOT/sweeps/NAME, ROOT/study.db and MLflow.
    """
    from icd import search

    _run(lambda **more: search.sweep(file, overrides, name=name, **more), options, as_json=as_json)


@click.command(cls=Verb)
@NAME
@_EXTEND
@click.option("--retry-failed", is_flag=True, help="Train the trials that failed again, once the cause is mended.")
@DRIVE
def resume(name: str, overrides: tuple[str, ...], as_json: bool, **options: Any) -> None:
    """Go on with sweep NAME as it was begun, without its file.

    To spend more: icd resume NAME --extend --set search.budget.trials=40
    """
    from icd import search

    _run(lambda **more: search.resume(name, overrides, **more), options, as_json=as_json)


def _run(begin: "Callable[..., SweepResult]", options: dict[str, Any], *, as_json: bool) -> None:
    from icd import search
    from icd.cli.progress import driving
    from icd.results.report import write_report
    from icd.search.study.sweep_index import pasted
    from icd.search.sweep_status import counts_of

    root = options["root"]
    with driving(options) as shown:
        result = begin(report=write_report, **shown)
    status = search.status(result.name, root=root)
    hints = _where_to_look(result, status, root)
    write(_told(result, status), [*status_lines(status, result.records), "", *hints], as_json=as_json)
    if result.pending:
        logger.warning("%s for MLflow: '%s'", runs_wait(result.pending), pasted(root, "sync", result.name))
    if result.failed_too_often:
        failed, tried = counts_of(result.records)["failed"], sum(record.counts for record in result.records)
        raise TrialsFailedError(
            f"{failed} of {tried} trials of sweep {result.name!r} failed, more than budget.max_failed_fraction allows; "
            f"see '{pasted(root, 'trials', result.name, '--state', 'failed')}', and once the cause is mended "
            f"'{pasted(root, 'resume', result.name, '--retry-failed')}'"
        )


def _told(result: "SweepResult", status: "SweepStatus") -> dict[str, Any]:
    """Write the end of a sweep for programs."""
    from icd.search.core.records import pareto_front
    from icd.search.sweep_status import counts_of, trial_row

    several = len(status.directions) > 1
    return {
        "name": result.name,
        "folder": str(result.folder),
        "stopped_by": result.stopped_by,
        "counts": counts_of(result.records),
        "best": trial_row(result.best, status.metrics) if result.best else None,
        "front": [r.number for r in pareto_front(result.records, status.directions)] if several else [],
        "baselines": [trial_row(record, status.metrics) for record in result.records if record.baseline],
        "failed_too_often": result.failed_too_often,
        "pending": result.pending,
        "tracking": result.tracking,
    }


def _where_to_look(result: "SweepResult", status: "SweepStatus", root: Path) -> list[str]:
    from icd.search.study.sweep_index import pasted

    name = result.name
    one = ["--trial", "N"] if len(status.directions) > 1 else []  # of several objectives somebody has to choose
    best = f"take the best:   {pasted(root, 'export', name, '-o', 'best.yaml', '--unconfirmed', *one)}"
    pairs = f"compare it:      {pasted(root, 'compare', '--pairs', name, 'ONE', 'OTHER', '...')}"
    return [
        f"look at it:      {pasted(root, 'ui', name)}",
        f"list its trials: {pasted(root, 'trials', name)}",
        f"read about it:   {pasted(root, 'report', name)}",
        f"confirm it:      {pasted(root, 'confirm', name)}",
        pairs if status.ranked is not None else best,
        f"in {result.folder}; MLflow: {result.tracking}",
    ]


@click.command(cls=Verb)
@NAME
@click.option("--now", is_flag=True, help="Do not wait for the trials under way: leave after their current epoch.")
@ROOT
@SUBMIT
def stop(name: str, now: bool, root: Path) -> None:
    """End sweep NAME: no new trials, and its driver leaves when those under way have ended. It can be resumed."""
    from icd import search
    from icd.search.study.sweep_index import pasted

    driver = search.stop(name, now=now, root=root)
    when = "after the current epoch of each trial, with a checkpoint" if now else "when the trials under way have ended"
    logger.info("sweep %s will stop %s; told %s", name, when, driver)
    again = pasted(root, "resume", name)
    logger.info("continue it with '%s'%s", again, "" if now else "; --now does not wait")


@click.command(cls=Verb)
@NAME
@waits(60.0, "Wait at most so many seconds.")
@READ
def sync(name: str, seconds: float, as_json: bool, root: Path) -> None:
    """Send MLflow what it has not been told of sweep NAME, after it was away."""
    from icd import search

    pending = search.sync(name, root=root, deadline_s=seconds, announce=logger.info)
    lines = [] if pending else [f"MLflow has everything of sweep {name}"]
    write({"name": name, "pending": pending}, lines, as_json=as_json)
    if pending:
        raise SetupError(f"{runs_wait(pending)} still: MLflow does not take all of sweep {name!r}; try again")


@click.command(cls=Verb)
@FILE
@SET
@RENAME
@click.option(
    "--measure",
    is_flag=True,
    help="Time a few steps here, and first train the teacher if it is missing. Else nothing is read or created.",
)
@click.option(
    "--rungs",
    is_flag=True,
    help="Say how well early epochs foretell the last one, from trials of this sweep or of one that it starts from.",
)
@click.option(
    "--curves", type=click.Path(path_type=Path), help="Judge that by the curves in this table. It implies --rungs."
)
@JSON
@WHERE
def plan(
    file: Path,
    overrides: tuple[str, ...],
    name: str | None,
    measure: bool,
    rungs: bool,
    curves: Path | None,
    as_json: bool,
    **options: Any,
) -> None:
    """Say what the sweep in FILE would try first, and what it would take on this machine."""
    from icd import search
    from icd.cli.progress import driving

    with driving(options) as shown:
        if measure:
            shown["announce"]("measuring; a missing teacher is trained and kept first")
        made = search.plan(file, overrides, name=name, measure=measure, curves=curves, **shown)
    write(made, plan_lines(made) + (_rung_lines(made.foresight) if rungs or curves else []), as_json=as_json)


def plan_lines(plan: "Plan") -> list[str]:
    """Write a plan for people."""
    from icd.machine import usable_cpus

    count = "infinitely many" if plan.configurations is None else str(plan.configurations)
    at_a_time = f"{plan.concurrent} at a time here ({usable_cpus()} CPUs)"
    trials = "as many trials as the hours allow" if plan.trials is None else plural(plan.trials, "trial")
    lines = [f"sweep {plan.name}: {trials}, {at_a_time}"]
    lines += ["", f"searched: {count} configurations"]
    known = [row.name for row in plan.dimensions]
    rows = [[row.name, row.kind, row.values, row.condition] for row in plan.dimensions]
    headers = ["parameter", "kind", "range", "asked when"]
    lines += columns(headers, rows, left=headers)
    lines += ["", f"first: {', '.join(plan.baselines) or 'no baselines'}; then"]
    lines += [f"  {_start_text(start, known)}" for start in plan.starts]
    for number, params in plan.suggestions.items():
        lines.append(f"  trial {number}: {params_text(params, known)}")
    return [*lines, "", *_cost_lines(plan), "", *(f"({line})" for line in plan.basis)]


def _rung_lines(foresight: "Foresight") -> list[str]:
    if not foresight.trials:
        return [
            "",
            "rungs: no curves to judge them by; name a table with --curves, or ask again once trials are complete",
        ]
    return ["", f"rungs, from {foresight.source}:", *(f"  {concordance_text(rung)}" for rung in foresight.rungs)]


def _start_text(start: "Start", known: Sequence[str]) -> str:
    from icd.config.names import shown_params

    there = f"{start.label} ({start.values[0]:.4g} there)"
    if start.params:
        return f"{there}: {params_text(shown_params(start.params), known)}"
    flat: dict[str, Any] = {}
    for part, change in start.changes.items():
        fields = change.items() if isinstance(change, dict) else ()
        flat |= {f"{part}.{name}": value for name, value in fields} or {part: change}
    return f"{there}, outside the ranges: {params_text(flat)}"


def _cost_lines(plan: "Plan") -> list[str]:
    lines = []
    for pair, pace in plan.paces.items():
        lines.append(
            f"{pair}: {pace['seconds_per_step']:.4g} s a step, {pace['steps']:.0f} steps and "
            f"{pace['evaluation_seconds']:.3g} s of evaluation an epoch on {plan.device}"
        )
    cost = plan.cost
    if cost.epochs is not None:
        lines.append(f"epochs:    {cost.epochs[0]} to {cost.epochs[1]}")
    wall, gpus = cost.wall_hours, cost.gpu_hours
    lines.append(f"wall time: {f'{duration(wall[0])} to {duration(wall[1])}' if wall else 'not known'}")
    lines.append(f"GPU-hours: {f'{gpus[0]:.3g} to {gpus[1]:.3g}' if gpus else 'not known'}")
    return [*lines, f"disk:      {size_text(plan.disk_bytes)}"]


def duration(hours: float) -> str:
    """Write a time with a fitting unit."""
    if hours < 1 / 60:
        return f"{3600 * hours:.0f} s"
    return f"{60 * hours:.0f} min" if hours < 2 else f"{hours:.1f} h"
