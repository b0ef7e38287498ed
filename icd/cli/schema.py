"""``icd schema``: what a file may hold, for editors and other programs."""

from typing import Literal

import click

from icd.cli.main import write_json


@click.command()
@click.argument("kind", type=click.Choice(["trial", "sweep"]), default="sweep")
def schema(kind: Literal["trial", "sweep"]) -> None:
    """Print the JSON Schema of a trial's or a sweep's file, with the meaning, range and default of every field.

    Editors complete and check a file that begins with the line
    ``# yaml-language-server: $schema=PATH``. Keep the schema there with ``icd schema sweep > PATH``.
    """
    from icd.config.json_schema import schema_of

    write_json(schema_of(kind))
