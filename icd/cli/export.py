"""``icd export``."""

import logging
from pathlib import Path

import click

from icd.cli.main import write_json
from icd.cli.show import JSON, NAME, ROOT
from icd.results import export as export_files

logger = logging.getLogger(__name__)


@click.command()
@NAME
@click.option("-o", "--output", type=click.Path(path_type=Path), required=True, help="Configuration file to write.")
@click.option("--trial", type=click.IntRange(min=0), help="Number of the trial [the best complete one].")
@click.option("--weights", type=click.Path(path_type=Path), help="Weights file [beside it, as .safetensors].")
@click.option("--force", is_flag=True, help="Replace existing files.")
@JSON
@ROOT
def export(
    name: str, output: Path, trial: int | None, weights: Path | None, force: bool, as_json: bool, root: Path | None
) -> None:
    """Write a trial of sweep NAME as a configuration that 'icd train' runs, with the student's weights."""
    made = export_files(name, output, trial=trial, weights=weights, force=force, root=root)
    if as_json:
        files = {"config": str(made.config), "weights": str(made.weights)}
        write_json({"trial": made.trial, **files, "provenance": dict(made.provenance)})
        return
    click.echo(f"trial {made.trial} of {name}: {made.config} and {made.weights}")
    click.echo(f"train it again: icd train {made.config}")
