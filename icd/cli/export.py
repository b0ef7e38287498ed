"""``icd export``."""

import logging
import os
from pathlib import Path
from typing import TYPE_CHECKING

import click

from icd.cli.main import write_json
from icd.cli.root import ROOT
from icd.cli.show import JSON, NAME
from icd.cli.submit import remote_option
from icd.results import Exported
from icd.results import export as export_files

if TYPE_CHECKING:
    from icd.results.programs import Format

logger = logging.getLogger(__name__)


@click.command()
@NAME
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    required=True,
    help="Folder for everything, or a file ending in .yaml for configuration and weights alone.",
)
@click.option("--trial", type=click.IntRange(min=0), help="Number of a finalist; with --unconfirmed, of any trial.")
@click.option("--unconfirmed", is_flag=True, help="Take the search's own trial: one seed, validation images.")
@click.option("--simplest", is_flag=True, help="Within one standard error of the best; needs 'icd explain NAME'.")
@click.option("--format", "formats", type=click.Choice(["onnx", "pt2"]), multiple=True, help="Programs [all].")
@click.option("--weights", type=click.Path(path_type=Path), help="Weights beside a .yaml file [.safetensors].")
@click.option(
    "--register",
    is_flag=False,
    flag_value="",
    metavar="[MODEL]",
    help="Put it into MLflow's registry [the sweep's name].",
)
@click.option("--alias", default="best", show_default=True, help="Of the registered version.")
@click.option("--force", is_flag=True, help="Replace existing files.")
@click.option("--data-root", type=click.Path(path_type=Path), help="Folder of data sets [ICD_DATA].")
@JSON
@ROOT
@remote_option
def export(
    name: str,
    output: Path,
    trial: int | None,
    unconfirmed: bool,
    simplest: bool,
    formats: "tuple[Format, ...]",
    weights: Path | None,
    register: str | None,
    alias: str,
    force: bool,
    data_root: Path | None,
    as_json: bool,
    root: Path | None,
) -> None:
    """Write the confirmed winner of sweep NAME: a configuration that 'icd train' runs, weights, programs and a card."""
    made = export_files(
        name,
        output,
        trial=trial,
        unconfirmed=unconfirmed,
        simplest=simplest,
        weights=weights,
        formats=formats or None,
        register=True if register == "" else register or False,
        alias=alias,
        force=force,
        root=root,
        data_root=data_root or os.environ.get("ICD_DATA") or None,
    )
    if as_json:
        write_json(_told(made))
        return
    for line in _lines(name, made):
        click.echo(line)


def _told(made: Exported) -> dict[str, object]:
    told: dict[str, object] = {
        "trial": made.trial,
        "confirmed": made.confirmed,
        "config": str(made.config),
        "weights": str(made.weights),
        "files": [str(path) for path in made.files],
        "differences": dict(made.differences),
        "compared_on": made.compared_on,
        "provenance": dict(made.provenance),
    }
    if made.pairs:
        told["pairs"] = {
            pair: {"config": str(one.config), "weights": str(one.weights), "provenance": dict(one.provenance)}
            for pair, one in made.pairs.items()
        }
    if made.registered is not None:
        model = made.registered
        told["registered"] = {
            "uri": model.uri,
            "version": model.version,
            "run_id": model.run_id,
            "new": model.new,
            "loadable": model.loadable,
        }
    return told


def _lines(name: str, made: Exported) -> list[str]:
    lines = [f"trial {made.trial} of {name}: {', '.join(str(path) for path in made.files)}"]
    if not made.confirmed:
        lines.append(made.provenance["status"])
    for file, difference in made.differences.items():
        lines.append(f"{file}: logits within {difference:.2g} of the student's on {made.compared_on}")
    if made.registered is not None:
        how = "new" if made.registered.new else "there already"
        lines.append(f"registered: {made.registered.uri}, version {made.registered.version} ({how})")
        if not made.registered.loadable:
            lines.append("it holds files and no model that MLflow can load: that needs student.onnx")
    configs = [one.config for one in made.pairs.values()] or [made.config]
    return [*lines, *(f"train it again: icd train {config}" for config in configs)]
