"""``icd explain``."""

import sys
from typing import TYPE_CHECKING, Any

import click

from icd import results
from icd.cli.live import LiveDisplay
from icd.cli.main import write_json
from icd.cli.options import place_options, places, table_options
from icd.cli.outcome import arm_lines, comparison_lines
from icd.cli.show import FAILED_RUNS, JSON, NAME, SET, columns
from icd.cli.stopping import stop_requested, stopping_politely
from icd.cli.submit import remote_options
from icd.cli.sweep import executor_options
from icd.results.explained import Explanation
from icd.search.studies import find

if TYPE_CHECKING:
    from icd.results.importance import Importance


@click.command()
@NAME
@click.option("--trial", type=click.IntRange(min=0), help="Which trial [the confirmed winner, else the best].")
@click.option("--seeds", type=click.IntRange(min=2, max=100), help="Fresh seeds at most, shared by all [5].")
@FAILED_RUNS
@click.option("--anew", is_flag=True, help="Begin another explanation, on seeds of its own.")
@click.option("--show", is_flag=True, help="Print what is known and run nothing.")
@SET
@executor_options
@table_options
@JSON
@place_options
@remote_options
def explain(name: str, show: bool, as_json: bool, **options: Any) -> None:
    """Say what each part of the best configuration of sweep NAME is worth, by leaving it out on shared fresh seeds.

    Arms are measured on validation images; the test set stays closed. The same command goes on where it was left. Below
    it says which parameters decided how good the trials of the search were.
    """
    where = places(options.pop("root"), options.pop("data_root"), download=options["download"])
    if show:
        found = results.read_explanation(name, root=where.root)
        if found is None:
            raise click.UsageError(f"nothing was explained of {name} yet; leave --show away")
    else:
        with stopping_politely(), LiveDisplay(sys.stderr) as display:
            found = results.explain_sweep(
                name,
                root=where.root,
                data_root=where.data_root,
                announce=display.announce,
                watch=display.watch,
                stop=stop_requested,
                **options,
            )
    from icd.results.importance import importance_of

    ledger = find(where.root, name)
    importance = importance_of(ledger, ledger.records())
    if as_json:
        write_json({**found.to_data(), "importance": importance.to_data()})
    else:
        click.echo("\n".join([*explanation_lines(found), "", *importance_lines(importance)]))


def explanation_lines(found: Explanation) -> list[str]:
    """Write an explanation: the parts, the one that matters most first, and the finding in words."""
    ordered = sorted(found.comparisons, key=lambda item: (item.difference is None, item.difference or 0.0))
    whole = found.whole
    mean = "-" if whole.mean is None else f"{whole.mean:.2f}"
    spread = "" if whole.sd is None else f" (sd {whole.sd:.2f})"
    first = f"trial {found.trial} of {found.sweep}: {found.metric} {mean}{spread}, {whole.parts} parts"
    return [first, *comparison_lines(ordered), "", *arm_lines(found.arms, found.metric), "", found.statement]


def importance_lines(found: "Importance") -> list[str]:
    """Write which parameters mattered in the search, each among the trials that have it."""
    if not found.groups:
        return [f"importance of parameters: not shown, {found.reason or 'no trial has parameters'}"]
    rows: list[list[object]] = []
    for group in found.groups:
        where = group.condition or "all trials"
        total = sum(row.importance or 0.0 for row in group.parameters) or 1.0
        for row in group.parameters:
            shares = [None if value is None else f"{value / total:.2f}" for value in (row.importance, row.chance)]
            clear = "not judged" if row.importance is None else "yes" if row.is_clear else "no"
            rows.append([row.name, *shares, clear, group.trials, where])
    heads = ["parameter", "share", "by chance", "clear", "trials", "where"]
    first = f"importance of parameters in the search (PED-ANOVA, {found.trials} complete trials)"
    return [first, *columns(heads, rows, left=["parameter", "clear", "where"])]
