"""``icd specialists``."""

from pathlib import Path

import click

from icd.cli.main import write_json
from icd.cli.root import ROOT
from icd.cli.show import JSON, NAME, columns
from icd.search import default_root


@click.command()
@NAME
@click.argument("others", nargs=-1, required=True)
@JSON
@ROOT
def specialists(name: str, others: tuple[str, ...], as_json: bool, root: Path | None) -> None:
    """Put the winner of sweep NAME, over several pairs, beside the best trials of the sweeps OTHERS of one pair each.

    Values are those of the search: one seed, validation images.
    """
    from icd.results.specialists import specialists as compare

    found = compare(root or default_root(), name, others)
    if as_json:
        write_json(found.to_data())
        return
    better = "more is better" if found.direction == "maximize" else "less is better"
    click.echo(f"{found.metric} ({better}) of trial {found.trial} of {found.name}, the best of {found.trials} by rank")
    headers = ["pair", "generalist", "specialist", "difference", "sweep", "trial", "best of"]
    rows = [
        [row.pair, row.generalist, row.specialist, row.difference, row.sweep, row.trial, row.trials or None]
        for row in found.rows
    ]
    click.echo("\n".join(columns(headers, rows, left=["pair", "sweep"])))
    click.echo("one seed each, chosen and measured on the same validation images: a difference is no proof")
