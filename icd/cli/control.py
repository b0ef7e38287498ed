"""``icd stop`` and ``icd flush``."""

import logging
from pathlib import Path

import click

from icd.cli.main import write_json
from icd.cli.root import ROOT
from icd.cli.show import JSON, NAME
from icd.cli.submit import remote_option
from icd.errors import SetupError

logger = logging.getLogger(__name__)


@click.command()
@NAME
@click.option("--now", is_flag=True, help="Do not wait for the trials under way: leave after their current epoch.")
@ROOT
@remote_option
def stop(name: str, now: bool, root: Path | None) -> None:
    """End sweep NAME: no new trials, and its driver leaves when those under way have ended. It can be resumed."""
    from icd import search
    from icd.search.studies import pasted

    driver = search.stop(name, now=now, root=root)
    when = "after the current epoch of each trial, with a checkpoint" if now else "when the trials under way have ended"
    logger.info("sweep %s will stop %s; told %s", name, when, driver)
    again = pasted(root or search.default_root(), "resume", name)
    logger.info("continue it with '%s'%s", again, "" if now else "; --now does not wait")


@click.command()
@NAME
@click.option("--wait", "seconds", type=click.FloatRange(min=0), default=60.0, show_default=True, help="At most, in s.")
@JSON
@ROOT
@remote_option
def flush(name: str, seconds: float, as_json: bool, root: Path | None) -> None:
    """Send MLflow what it has not been told of sweep NAME, after it was away."""
    from icd import search

    pending = search.flush(name, root=root, deadline_s=seconds, announce=logger.info)
    if as_json:
        write_json({"name": name, "pending": pending})
    if pending:
        raise SetupError(f"{pending} events of sweep {name!r} are still pending: MLflow does not take them; try again")
    if not as_json:
        click.echo(f"MLflow has everything of sweep {name}")
