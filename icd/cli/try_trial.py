"""``icd try``."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from icd.cli.format import write_json, write_lines
from icd.cli.options import JSON, NAME, ROOT, SUBMIT, Verb
from icd.text import cell_text

if TYPE_CHECKING:
    from icd.search.asking import TryResult


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
@click.option(
    "--wait",
    "seconds",
    type=click.FloatRange(min=0),
    default=10.0,
    show_default=True,
    help="Wait at most so many seconds for the sweep's driver to take it.",
)
@JSON
@ROOT
@SUBMIT
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
    if as_json:
        write_json(found)
    else:
        write_lines(_lines(found, pasted(root, "resume", name)))


def _lines(found: "TryResult", resume: str) -> list[str]:
    values = "".join(f", {metric} {cell_text(value)}" for metric, value in found.values.items())
    trial = f"trial {found.trial}: {found.state}{values}"
    if found.request is None and found.trial is not None:
        return [f"{trial}; it has the same configuration, so nothing was added"]
    if found.trial is None:
        how = f"its driver ({found.driver}) has not taken it yet" if found.driver else f"'{resume}' runs it"
        lines = [f"queued as {found.request}; {how}"]
    else:
        lines = [f"{trial} ({found.label})"]
    lines.append(f"what is not set is that of trial {found.base}")
    if not found.searched:
        lines.append("it lies outside the ranges of the sweep, so the sampler does not learn from it")
    return lines
