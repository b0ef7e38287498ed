"""``icd plan``."""

import logging
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from icd import search
from icd.cli.live import LiveDisplay
from icd.cli.main import write_json
from icd.cli.options import place_options, places
from icd.cli.show import JSON, SET, columns, params_text
from icd.cli.stopping import stop_requested, stopping_politely
from icd.config.names import shown_params
from icd.config.sweep import Start
from icd.search.machine import usable_cpus
from icd.search.planning import Plan

logger = logging.getLogger(__name__)


@click.command()
@click.argument("file", type=click.Path(path_type=Path))
@SET
@click.option("--name", help="Another name for the sweep than the file's.")
@click.option(
    "--measure",
    is_flag=True,
    help="Time a few steps here, and first train the teacher if it is missing. Else nothing is read or created.",
)
@JSON
@place_options
def plan(
    file: Path,
    overrides: tuple[str, ...],
    name: str | None,
    measure: bool,
    as_json: bool,
    root: Path | None,
    data_root: Path | None,
    download: bool,
) -> None:
    """Say what the sweep in FILE would try first, and what it would take on this machine."""
    where = places(root, data_root, download=download)
    with stopping_politely(), LiveDisplay(sys.stderr) as display:
        if measure:
            display.announce("measuring; a missing teacher is trained and kept first")
        made = search.plan(
            file,
            overrides,
            name=name,
            measure=measure,
            root=where.root,
            data_root=where.data_root,
            download=where.download,
            announce=display.announce,
            stop=stop_requested,
        )
    if as_json:
        write_json(made.to_data())
        return
    for line in plan_lines(made):
        click.echo(line)


def plan_lines(plan: Plan) -> list[str]:
    """Write a plan for people."""
    count = "infinitely many" if plan.configurations is None else str(plan.configurations)
    at_a_time = f"{plan.concurrent} at a time here ({usable_cpus()} CPUs)"
    trials = "as many trials as the hours allow" if plan.trials is None else f"{plan.trials} trials"
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


def _start_text(start: Start, known: Sequence[str]) -> str:
    there = f"{start.label} ({start.values[0]:.4g} there)"
    if start.params:
        return f"{there}: {params_text(shown_params(start.params), known)}"
    flat: dict[str, Any] = {}
    for part, change in start.changes.items():
        fields = change.items() if isinstance(change, dict) else ()
        flat |= {f"{part}.{name}": value for name, value in fields} or {part: change}
    return f"{there}, outside the ranges: {params_text(flat)}"


def _cost_lines(plan: Plan) -> list[str]:
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
    return [*lines, f"disk:      {plan.disk_bytes / 1e9:.2g} GB"]


def duration(hours: float) -> str:
    """Write a time with a fitting unit."""
    if hours < 1 / 60:
        return f"{3600 * hours:.0f} s"
    return f"{60 * hours:.0f} min" if hours < 2 else f"{hours:.1f} h"
