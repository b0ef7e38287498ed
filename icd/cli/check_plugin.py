"""``icd check-plugin``."""

from pathlib import Path

import click

from icd.cli.format import write_json
from icd.cli.options import JSON, Verb
from icd.errors import ConfigError, Problem


@click.command(cls=Verb, name="check-plugin")
@click.argument("file")
@click.option("--data-root", type=click.Path(path_type=Path), help="Folder of data sets, for those that it registers.")
@click.option("--data-path", help="File or folder below it, for data sets that need one.")
@click.option("--image-size", type=click.IntRange(min=1), help="Of the images that its networks take.")
@JSON
def check_plugin(
    file: str, data_root: Path | None, data_path: str | None, image_size: int | None, as_json: bool
) -> None:
    """Import FILE, a plugin or the name of an installed module, and check everything that it registers.

    Says in plain words what fails, and ends with 2 then. The checks are those of ``icd.testing``.
    """
    from icd import testing
    from icd.plugins import resolve

    where = {"data_root": data_root, "data_path": data_path, "image_size": image_size}
    found = testing.check_plugin(resolve(file, Path.cwd()), **where)  # type: ignore[arg-type]
    if as_json:
        write_json([item._asdict() for item in found])
    else:
        for item in found:
            verdict = f"{len(item.failed)} of its checks fail" if item.failed else item.skipped or "passes"
            click.echo(f"{item.what} {item.name}: {verdict}")
    problems = [
        Problem(source=Path(file).name, path=f"{item.what} {item.name}", rule=line)
        for item in found
        for line in item.failed
    ]
    if problems:
        raise ConfigError(problems)
