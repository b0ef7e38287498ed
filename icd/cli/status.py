"""``icd status`` and ``icd trials``."""

import csv
import sys
from pathlib import Path

import click

from icd.cli.main import write_json
from icd.cli.root import ROOT
from icd.cli.show import (
    JSON,
    NAME,
    audit_lines,
    columns,
    configuration,
    count_text,
    dead_lines,
    names_of,
    ranked_cells,
    ranked_headers,
    state_text,
    status_lines,
)
from icd.cli.submit import remote_option
from icd.results.pruning import audit_sweep
from icd.search import default_root
from icd.search.pareto import pareto_front
from icd.search.reading import STATES, SweepStatus, all_statuses, chosen, flat_rows, plain_sweep, status_of, trial_row
from icd.search.record import State
from icd.search.studies import find, pasted
from icd.search.study import Ledger
from icd.search.terms import dead_kinds, noted_terms


@click.command()
@click.argument("name", required=False)
@JSON
@ROOT
@remote_option
def status(name: str | None, as_json: bool, root: Path | None) -> None:
    """Say how every sweep stands, or one sweep in full: counts, budget, best trials, what pruning did, dead terms."""
    where = root or default_root()
    if name is None:
        _all(all_statuses(where), where, as_json=as_json)
        return
    found = status_of(where, name)
    if found.state == "preparing":
        if as_json:
            write_json({**found.to_data(), "pruning": None, "front": [], "dead_terms": [], "confirmed": None})
        else:
            click.echo("\n".join(status_lines(found, ())))
        return
    ledger = find(where, name)
    records = ledger.records()
    audit, dead = audit_sweep(plain_sweep(ledger), records), dead_kinds(records)
    if as_json:
        front = [record.number for record in pareto_front(records, found.directions)]
        pruning = audit.to_data() if audit else None
        terms = [kind.to_data() for kind in dead]
        told = {"pruning": pruning, "front": front, "dead_terms": terms, "confirmed": _confirmed(ledger)}
        write_json({**found.to_data(), **told})
        return
    for line in status_lines(found, records) + (audit_lines(audit) if audit else []) + dead_lines(dead):
        click.echo(line)
    confirmed = _confirmed(ledger)
    if confirmed:
        click.echo(f"\nconfirmed: {confirmed} ('{pasted(where, 'confirm', found.name, '--show')}' has the numbers)")


def _confirmed(ledger: Ledger) -> str | None:
    """Give the finding of the sweep's confirmation, if there is one."""
    if "confirm/plans" not in ledger.attributes:
        return None  # the statistics take a while to import
    from icd.results.confirmed import confirmation_of

    found = confirmation_of(ledger)
    return found.statement if found else None


@click.command()
@NAME
@JSON
@click.option("--csv", "as_csv", is_flag=True, help="Print as CSV, one column for each parameter.")
@click.option("--state", "states", type=click.Choice(STATES), multiple=True, help="Only these; repeatable.")
@click.option("--top", type=click.IntRange(min=1), help="Only the best few complete trials, best first.")
@ROOT
@remote_option
def trials(
    name: str, as_json: bool, as_csv: bool, states: tuple[State, ...], top: int | None, root: Path | None
) -> None:
    """List the trials of sweep NAME, one row each."""
    if as_json and as_csv:
        raise click.UsageError("--json and --csv exclude each other")
    ledger = find(root or default_root(), name)
    objectives = plain_sweep(ledger)["objectives"]
    metrics = [item["metric"] for item in objectives]
    maximize = objectives[0]["direction"] == "maximize"
    records = chosen(ledger.records(), states=states, top=top, maximize=maximize)
    if as_json:
        curves = [{str(epoch): value for epoch, value in record.curve.items()} for record in records]
        write_json([{**trial_row(r, metrics), "curve": curve} for r, curve in zip(records, curves, strict=True)])
        return
    if as_csv:
        rows = flat_rows(records, metrics)
        header = list(rows[0]) if rows else ["number", "state", *metrics]
        writer = csv.DictWriter(sys.stdout, header, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        return
    more = ranked_headers(records)
    headers = ["trial", "state", *metrics, *more, "last", "epochs", "seconds", "configuration", "reason"]
    table, known = [], names_of(records)
    for record in records:
        row = trial_row(record, metrics)
        values = [row["values"].get(metric) for metric in metrics]
        start = [record.number, record.state, *values, *ranked_cells(record, more)]
        table.append(
            [*start, row["last"], row["epochs"], row["seconds"], configuration(record, known=known), record.reason]
        )
    for line in columns(headers, table, left=["state", "configuration", "reason"]):
        click.echo(line)
    dead = [f"trial {record.number}: {term.sentence}" for record in records for term in noted_terms(record)]
    for line in ["", *dead] if dead else []:
        click.echo(line)


def _all(found: list[SweepStatus], root: Path, *, as_json: bool) -> None:
    if as_json:
        write_json([item.to_data() for item in found])
        return
    if not found:
        click.echo(f"no sweeps in {root}")
        return
    rows = []
    for item in found:
        best = f"{item.best.values[0]:.4g} {item.metrics[0]} (trial {item.best.number})" if item.best else None
        rows.append([item.name, item.state, count_text(item.counts), best, state_text(item).partition(";")[0]])
    headers = ["sweep", "state", "trials", "best", "how"]
    for line in columns(headers, rows, left=headers):
        click.echo(line)
