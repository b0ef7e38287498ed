"""``icd status | trials | show | logs | try | rm``: looks at sweeps that are there, adds a trial, takes them away."""

import csv
import sys
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import click

from icd.cli.format import audit_lines, count_text, state_text, status_lines, trial_lines, trial_text, write
from icd.cli.options import JSON, NAME, READ, ROOT, SUBMIT, Verb, waits
from icd.errors import StateError, UsageError
from icd.text import cell_text, columns, plural

if TYPE_CHECKING:
    from collections.abc import Sequence

    from icd.search.asking import TryResult
    from icd.search.core.records import Stage, State, TrialRecord
    from icd.search.study.ledger import Ledger
    from icd.search.sweep_status import SweepStatus

_STAGES: "Sequence[Stage]" = ("search", "race", "confirm", "ablate")
_STATES = ("running", "interrupted", "complete", "pruned", "failed", "duplicate", "retried")


@click.command(cls=Verb)
@click.argument("name", required=False)
@READ
def status(name: str | None, as_json: bool, root: Path) -> None:
    """Say how every sweep stands, or one sweep in full: counts, budget, best trials, what pruning did, dead terms."""
    from icd.results.pruning import audit_sweep
    from icd.search.core.dead_terms import dead_kinds
    from icd.search.core.records import pareto_front
    from icd.search.study.sweep_index import find, pasted
    from icd.search.sweep_status import all_statuses, plain_sweep, records_of, status_of

    if name is None:
        _all(all_statuses(root), root, as_json=as_json)
        return
    found = status_of(root, name)
    ledger = None if found.state == "preparing" else find(root, name)
    records = records_of(root, ledger) if ledger else []
    audit = audit_sweep(plain_sweep(ledger), records) if ledger else None
    dead, confirmed = dead_kinds(records), _confirmed(ledger) if ledger else None
    front = [r.number for r in pareto_front(records, found.directions)] if len(found.directions) > 1 else []
    told = {"pruning": audit, "front": front, "confirmed": confirmed}
    lines = status_lines(found, records) + (audit_lines(audit) if audit else [])
    lines += ["", "terms that do nothing:", *(f"  {kind.sentence}" for kind in dead)] if dead else []
    if confirmed:
        more = f"'{pasted(root, 'confirm', found.name, '--dry-run')}' has the numbers"
        lines += ["", f"confirmed: {confirmed} ({more})"]
    write({**found.to_data(), **told, "dead_terms": [kind._asdict() for kind in dead]}, lines, as_json=as_json)


def _confirmed(ledger: "Ledger") -> str | None:
    """Give the finding of the sweep's confirmation, if there is one."""
    if "confirm/plans" not in ledger.attributes:
        return None  # the statistics take a while to import
    from icd.results.read_outcome import outcome_of

    found = outcome_of(ledger, "confirm")
    return found.statement if found else None


@click.command(cls=Verb)
@NAME
@JSON
@click.option("--csv", "as_csv", is_flag=True, help="Print as CSV, one column for each parameter.")
@click.option(
    "--state", "states", type=click.Choice(_STATES), multiple=True, help="List trials in this state.  [repeatable]"
)
@click.option("--top", type=click.IntRange(min=1), help="List only so many complete trials, best first.")
@click.option("--stage", type=click.Choice(_STAGES), default="search", show_default=True, help="List its runs.")
@ROOT
@SUBMIT
def trials(
    name: str, as_json: bool, as_csv: bool, states: "tuple[State, ...]", top: int | None, stage: "Stage", root: Path
) -> None:
    """List the trials of sweep NAME, one row each, or the runs of its confirmations, ablations or races."""
    if as_json and as_csv:
        raise click.UsageError("--json and --csv exclude each other")
    from icd.search.core.dead_terms import noted_terms
    from icd.search.core.records import chosen
    from icd.search.study.sweep_index import find
    from icd.search.sweep_status import flat_rows, records_of, trial_row

    ledger = find(root, name)
    objectives = _objectives(ledger, stage)
    metrics, maximize = [*objectives], "minimize" not in [*objectives.values()][:1]
    records = chosen(records_of(root, ledger, stage), states=states, top=top, maximize=maximize)
    if as_csv:
        rows = flat_rows(records, metrics)
        header = list(rows[0]) if rows else ["number", "state", *metrics]
        writer = csv.DictWriter(sys.stdout, header, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        return
    dead = [f"trial {record.number}: {term.sentence}" for record in records for term in noted_terms(record)]
    lines = [*trial_lines(records, metrics, whole=True), *([""] if dead else []), *dead]
    write([{**trial_row(item, metrics), "curve": dict(item.curve)} for item in records], lines, as_json=as_json)


def _objectives(ledger: "Ledger", stage: "Stage") -> dict[str, str]:
    """Give what the trials of a stage measure, with its direction; nothing where it was not begun."""
    from icd.search.sweep_status import plain_sweep

    if stage == "search":
        return {item["metric"]: item["direction"] for item in plain_sweep(ledger)["objectives"]}
    from icd.results.plan import stored_plans

    return {plan.objective.metric: plan.objective.direction for plan in stored_plans(ledger, stage)}


def _all(found: "list[SweepStatus]", root: Path, *, as_json: bool) -> None:
    rows = []
    for item in found:
        best = f"{item.best.values[0]:.4g} {item.metrics[0]} (trial {item.best.number})" if item.best else None
        rows.append([item.name, item.state, count_text(item.counts), best, state_text(item).partition(";")[0]])
    headers = ["sweep", "state", "trials", "best", "how"]
    lines = columns(headers, rows, left=headers) if rows else [f"no sweeps in {root}"]
    write([item.to_data() for item in found], lines, as_json=as_json)


@click.command(cls=Verb)
@NAME
@click.argument("trial", type=click.IntRange(min=0))
@READ
def show(name: str, trial: int, as_json: bool, root: Path) -> None:
    """Show trial TRIAL of sweep NAME whole: what it tried, its curve, how it ended, and its configuration.

    Runs of its confirmations, ablations and races have numbers from 100000.
    """
    import yaml

    from icd.search.core.attempts import trial_folder
    from icd.search.study.sweep_index import find, sweep_folder
    from icd.search.sweep_status import trial_row

    ledger = find(root, name)
    record, folder = _record(root, ledger, trial), trial_folder(sweep_folder(root, name), trial)
    row = trial_row(record, [*_objectives(ledger, record.stage)])
    files = {name: run / "config.yaml" for name, run in _runs(ledger, folder).items()}
    texts = {name: file.read_text(encoding="utf-8").rstrip() for name, file in files.items() if file.exists()}
    configs = {name: yaml.safe_load(text) for name, text in texts.items()}
    more = {"curve": dict(record.curve), "attributes": dict(record.attributes), "folder": str(folder)}
    told = [line for name, text in texts.items() for line in ("", *([f"# {name}"] if name else []), text)]
    data = {**row, **more, "config": configs.get("") if "" in files else configs}
    write(data, [*trial_text(row, record, folder), *told], as_json=as_json)


def _runs(ledger: "Ledger", folder: Path) -> dict[str, Path]:
    """Give the folder of each run of a trial by the name of its pair, or of its only one by the empty name."""
    from icd.search.sweep_status import plain_sweep

    pairs = [pair["name"] for pair in plain_sweep(ledger).get("pairs", ())] or [""]
    return {pair: folder / pair for pair in pairs}


def _record(root: Path, ledger: "Ledger", number: int) -> "TrialRecord":
    """Give a trial, with its files here where the root is a bucket."""
    from icd.search.study.sweep_files import sweep_files_of
    from icd.search.study.sweep_index import pasted, sweep_folder
    from icd.search.sweep_status import records_of

    records = (record for stage in _STAGES for record in records_of(root, ledger, stage))
    record = next((record for record in records if record.number == number), None)
    if record is None:
        raise StateError(f"sweep {ledger.name!r} has no trial {number}; see '{pasted(root, 'trials', ledger.name)}'")
    sweep_files_of(sweep_folder(root, ledger.name)).fetch({number: record.attempts})
    return record


@click.command(cls=Verb)
@NAME
@click.argument("trial", type=click.IntRange(min=0), required=False)
@ROOT
@SUBMIT
def logs(name: str, trial: int | None, root: Path) -> None:
    """Print what the workers of sweep NAME wrote, file by file; with TRIAL its epochs, and the lines that name it."""
    from icd.search.core.attempts import trial_folder
    from icd.search.study.sweep_index import find, sweep_folder

    ledger, folder = find(root, name), sweep_folder(root, name)
    files = {path.name: path.read_text("utf-8", "replace") for path in sorted(folder.glob("logs/*.log"))}
    if trial is not None:
        _epochs(_record(root, ledger, trial), _runs(ledger, trial_folder(folder, trial)))
        kept = {file: [line for line in text.splitlines() if _names(line, trial)] for file, text in files.items()}
        files = {file: "\n".join(lines) for file, lines in kept.items()}
    for file, text in files.items():
        if text.strip():
            click.echo(f"==> {folder / 'logs' / file}\n{text.rstrip()}")
    if not any(map(str.strip, files.values())) and trial is None:
        click.echo(f"the workers of sweep {name} wrote nothing into {folder / 'logs'}", err=True)


def _epochs(record: "TrialRecord", runs: dict[str, Path]) -> None:
    from icd.worker.trial_metrics import stored_rows

    for pair, row in ((pair, row) for pair, folder in runs.items() for row in stored_rows(folder)):
        shown = "  ".join(f"{name} {value:.4g}" for name, value in row.items() if name not in ("epoch", "time"))
        click.echo(f"{pair} epoch {row['epoch']}  {shown}".strip())
    how = f": {record.reason}" if record.reason else ""
    click.echo(f"trial {record.number} {record.state}, started {plural(record.attempts, 'time')}{how}")


def _names(line: str, trial: int) -> bool:
    """Whether a line of a log is about a trial: by its number, or by its folder."""
    words = line.replace("/", " ").replace(":", " ").replace(",", " ").split()
    return f"{trial:04d}" in words or any(pair == ("trial", str(trial)) for pair in pairwise(words))


@click.command("try", cls=Verb)
@NAME
@click.option(
    "--set",
    "overrides",
    multiple=True,
    required=True,
    metavar="A.B=VALUE",
    help="Set one value of the trial, inside the sweep's ranges or not.  [repeatable]",
)
@click.option(
    "--from",
    "base",
    type=click.IntRange(min=0),
    metavar="TRIAL",
    help="Take what is not set from this trial.  [default: the best one]",
)
@click.option("--label", default="", help="Call it so in tables.  [default: what is set]")
@waits(10.0, "Wait at most so many seconds for the sweep's driver to take it.")
@READ
def try_trial(
    name: str, overrides: tuple[str, ...], base: int | None, label: str, seconds: float, as_json: bool, root: Path
) -> None:
    """Add one trial to the search of sweep NAME.

    As in: icd try NAME --set method.cluster_weight=8

    A driver at work takes it within seconds; without one it waits for 'icd resume NAME'. It counts as one of
    search.budget.trials. A configuration that a trial has already is not trained again.
    """
    from icd import search
    from icd.search.study.sweep_index import pasted

    found = search.try_trial(name, overrides, base=base, label=label, wait_s=seconds, root=root)
    write(found, _asked(found, pasted(root, "resume", name)), as_json=as_json)


def _asked(found: "TryResult", resume: str) -> list[str]:
    values = "".join(f", {metric} {cell_text(value)}" for metric, value in found.values.items())
    trial = f"trial {found.trial}: {found.state}{values}"
    if found.request is None and found.trial is not None:
        return [f"{trial}; it has the same configuration, so nothing was added"]
    if found.trial is None:
        how = f"'{resume}' runs it"
        if found.driver:
            how = f"its driver ({found.driver}) has not taken it yet; if that confirms or ablates, {how} after it"
        lines = [f"queued as {found.request}; {how}"]
    else:
        lines = [f"{trial} ({found.label})"]
    lines.append(f"what is not set is that of trial {found.base}")
    if not found.searched:
        why = "it lies outside the ranges, or the sampler (cmaes, nsga2) learns from its own draws alone"
        lines.append(f"the sampler does not learn from it: {why}")
    return lines


@click.command(cls=Verb)
@NAME
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--mlflow", is_flag=True, help="Delete its experiment in MLflow too; 'mlflow gc' makes that final.")
@ROOT
@SUBMIT
def rm(name: str, yes: bool, mlflow: bool, root: Path) -> None:
    """Remove sweep NAME: its study and its folder. Teachers and their caches stay. A sweep that runs is refused."""
    from icd.search.removal import parts_of, remove

    parts = parts_of(root, name, mlflow=mlflow)
    if not yes and not click.confirm(f"remove {', '.join(parts)}?", err=True):
        raise UsageError(f"sweep {name!r} is not removed, as you answered no")
    remove(root, name, mlflow=mlflow)
    click.echo(f"removed {', '.join(parts)}")
