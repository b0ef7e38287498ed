"""``icd table``."""

import sys
from pathlib import Path
from typing import Any

import click

from icd.cli.live import LiveDisplay
from icd.cli.main import write_json
from icd.cli.options import place_options, places, table_options
from icd.cli.show import JSON, SET
from icd.cli.stopping import stop_requested, stopping_politely
from icd.cli.submit import remote_options
from icd.cli.sweep import executor_options
from icd.config.located import located
from icd.config.yaml import apply_overrides, read_yaml
from icd.results.report import write_report
from icd.results.table import read_table, with_run_ids
from icd.results.table_text import FORMATS, markdown
from icd.results.tournament import entries, run_table
from icd.search import settings_of
from icd.trial.checkpoint import write_durably


@click.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--seeds", type=click.IntRange(min=2, max=100), help="For every row [5, or as it was begun].")
@click.option("--against", help="Baseline rows, with commas [KD, or the first].")
@click.option("--alpha", type=click.FloatRange(0, 0.5, min_open=True), default=0.05, show_default=True)
@click.option("-o", "--output", type=click.Path(path_type=Path), help="Write OUTPUT.md, .csv and .tex as well.")
@click.option("--show", is_flag=True, help="Print what is known and run nothing.")
@SET
@executor_options
@table_options
@JSON
@place_options
@remote_options
def tournament(
    file: Path,
    seeds: int | None,
    against: str | None,
    alpha: float,
    output: Path | None,
    show: bool,
    overrides: tuple[str, ...],
    as_json: bool,
    **options: Any,
) -> None:
    """Tune every method that FILE names in space.method with the same budget, and compare them on fresh seeds.

    The same command goes on where it was left.
    """
    document = read_yaml(file)
    document = apply_overrides(document, overrides) if overrides else document
    where = places(options.pop("root"), options.pop("data_root"), download=options["download"])
    found = entries(document)
    if not show:
        with located(document), stopping_politely(), LiveDisplay(sys.stderr) as display:
            settings = settings_of(
                {
                    "root": where.root,
                    "data_root": where.data_root,
                    "announce": display.announce,
                    "watch": display.watch,
                    "stop": stop_requested,
                    "report": write_report,
                    **options,  # type: ignore[typeddict-item]
                }
            )
            run_table(document, settings, seeds=seeds)
    labels = [label.strip() for label in against.split(",")] if against else []
    table = read_table(str(document.data["name"]), found, where.root, seeds=seeds, against=labels, alpha=alpha)
    table = with_run_ids(table, where.root)
    if output is not None:
        output.parent.mkdir(parents=True, exist_ok=True)
        for ending, write in FORMATS.items():
            write_durably(output.with_name(f"{output.name}.{ending}"), write(table).encode())
    if as_json:
        write_json(table.to_data())
    else:
        click.echo(markdown(table).rstrip())
