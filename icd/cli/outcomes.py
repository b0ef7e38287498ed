"""``icd compare | report | ui | export``: what sweeps found, side by side, on pages, and as files."""

import importlib.util
import logging
import signal
import sys
import threading
import webbrowser
from contextlib import ExitStack
from itertools import combinations, takewhile
from operator import eq
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from icd.cli.format import write
from icd.cli.options import DATA_ROOT, NAME, OUTPUT, READ, ROOT, Verb
from icd.cli.signals import handled
from icd.errors import SetupError, StateError, UsageError
from icd.text import columns

if TYPE_CHECKING:
    from icd.results import Exported

logger = logging.getLogger(__name__)

_WIDEST = 48
_PORT = click.IntRange(1, 65535)


@click.command(cls=Verb)
@click.argument("names", nargs=-1, required=True)
@click.option(
    "--pairs", is_flag=True, help="Put the winner of the first sweep, over several pairs, beside the best of each pair."
)
@READ
def compare(names: tuple[str, ...], pairs: bool, as_json: bool, root: Path) -> None:
    """Put the sweeps NAMES side by side: what differs, what was found, and whether values may be compared.

    With --pairs the first one is a sweep over several pairs, and the others are sweeps of one pair each. Values are
    then those of the search: one seed, validation images.
    """
    if len(set(names)) < max(2, len(names)):
        raise click.UsageError(f"compare takes at least two different sweeps, but got {' '.join(names)}")
    if pairs:
        _pairs(root, names[0], names[1:], as_json=as_json)
        return
    from icd.results.compare import TRAINED
    from icd.results.compare import compare as compare_sweeps

    found = compare_sweeps(root, names)
    lines = [f"not comparable: {words}" for words in found["warnings"]]
    for title, rows in (("found", found["figures"]), ("differs", found["differences"])):
        if rows:
            headers, cells = [title, *names], []
            for row, values in rows.items():
                texts = [values[name] or "-" for name in names]
                cells.append([row, *(_cut(texts) if title == "differs" or row in TRAINED else texts)])
            lines += ["", *columns(headers, cells, left=headers)]
    write(found, lines, as_json=as_json)


def _cut(texts: list[str]) -> list[str]:
    """Cut long texts to where two of them differ first; whole ones, where two that differ would look the same."""
    same = max((sum(takewhile(bool, map(eq, *two))) for two in combinations(set(texts), 2)), default=0)
    start = max(0, same - 8)
    ends = [f"...{text[start:]}" if start and len(text) > _WIDEST else text for text in texts]
    shown = [text if len(text) <= _WIDEST else f"{text[: _WIDEST - 3]}..." for text in ends]
    return shown if len(set(shown)) == len(set(texts)) else texts


def _pairs(root: Path, name: str, others: tuple[str, ...], *, as_json: bool) -> None:
    from icd.results.compare import compare_pairs

    found = compare_pairs(root, name, others)
    better = "more is better" if found["direction"] == "maximize" else "less is better"
    first = f"{found['metric']} ({better}) of trial {found['trial']} of {name}, the best of {found['trials']} by rank"
    last = "one seed each, chosen and measured on the same validation images: a difference is no proof"
    headers = ["pair", "common", "own", "difference", "sweep", "trial", "trials"]
    rows = [[row[header] for header in headers] for row in found["rows"]]
    write(found, [first, *columns(headers, rows, left=["pair", "sweep"]), last], as_json=as_json)


@click.command(cls=Verb)
@NAME
@click.option("-o", "--output", type=OUTPUT, help="Write this HTML file.  [default: report.html in the sweep's folder]")
@READ
def report(name: str, output: Path | None, as_json: bool, root: Path) -> None:
    """Write the report of sweep NAME, however it stands: one HTML file that needs nothing else.

    A report that is there already is replaced. A driver writes one by itself when it leaves, and gives it to MLflow;
    'icd sync' gives MLflow a later one.
    """
    from icd.results.report import write_report
    from icd.search.study.sweep_files import sweep_files_of
    from icd.search.study.sweep_index import REPORT_NAME, refuse_elsewhere, sweep_folder

    folder = sweep_folder(root, name)
    target = output or folder / REPORT_NAME
    if output is None:
        refuse_elsewhere(root, name)
    write_report(root, name, target)
    if output is None:
        sweep_files_of(folder).publish([REPORT_NAME])  # else 'icd sync' would put an older one in its place
    write({"name": name, "path": str(target)}, [str(target)], as_json=as_json)


@click.command(cls=Verb)
@NAME
@click.option("--port", type=_PORT, help="Serve MLflow on this port.  [default: a free one]")
@click.option("--dashboard-port", type=_PORT, help="Serve optuna-dashboard on this port.  [default: a free one]")
@click.option("--no-browser", is_flag=True, help="Print the links only.")
@ROOT
def ui(name: str, port: int | None, dashboard_port: int | None, no_browser: bool, root: Path) -> None:
    """Open sweep NAME in MLflow, and in optuna-dashboard if it is installed; Ctrl-C ends both.

    Where MLFLOW_TRACKING_URI is a server, its page is opened instead of starting one.
    """
    from icd.search.study.sweep_index import REPORT_NAME, find, pasted, sweep_folder, tracking_uri
    from icd.search.tracking.servers import answers, dashboard_server, free_port, mlflow_server

    uid = str(find(root, name).attributes["uid"])
    if port is not None and port == dashboard_port:
        raise UsageError(f"--port and --dashboard-port must differ, but got {port} twice")
    uri, ports = tracking_uri(root), (free_port(port), free_port(dashboard_port))
    over = threading.Event()
    with ExitStack() as servers, handled(lambda *_: over.set(), (signal.SIGINT, signal.SIGTERM)):
        started = []
        if not uri.startswith(("http://", "https://")):
            started.append(servers.enter_context(mlflow_server(root, uri, ports[0])))
        base = started[0].address if started else uri
        if importlib.util.find_spec("optuna_dashboard") is not None:
            started.append(servers.enter_context(dashboard_server(root, ports[1])))
        else:
            logger.info("no optuna-dashboard, which shows the study's history too: pip install '.[dashboard]'")
        if not all(answers(server, over) for server in started):
            return
        link = _leaderboard(base, name, uid, pasted(root, "sync", name))
        click.echo(f"MLflow: {link}")
        page = sweep_folder(root, name) / REPORT_NAME
        if page.exists():
            click.echo(f"report: {page.as_uri()}")
        for server in started:
            if server.address != base:
                click.echo(f"optuna-dashboard: {server.address}/dashboard")
        sys.stdout.flush()
        if not no_browser:
            webbrowser.open(link)
        if started:
            logger.info("Ctrl-C ends it")
            over.wait()


def _leaderboard(base: str, name: str, uid: str, sync: str) -> str:
    """Give the link of the sweep's leaderboard.

    Raises:
        StateError: If the server does not know the sweep yet.
        SetupError: If it does not answer, or is no MLflow.
    """
    from icd.search.tracking.mlflow_client import advice, connect, own_experiment
    from icd.search.tracking.mlflow_pages import leaderboard_url, without_password

    shown = without_password(base)
    try:
        found = own_experiment(connect(base), uid)
    except Exception as error:  # of MLflow's client, whatever it is that answers
        raise SetupError(
            f"{shown} does not answer as MLflow does: {advice(error)}; check MLFLOW_TRACKING_URI"
        ) from error
    if found is None:
        raise StateError(f"MLflow has no experiment of sweep {name!r} yet; send it with '{sync}'")
    return leaderboard_url(shown, found.experiment_id)


@click.command(cls=Verb)
@NAME
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    required=True,
    help="Write everything into this folder, or configuration and weights alone where it ends in .yaml.",
)
@click.option("--trial", type=click.IntRange(min=0), help="Take this finalist; with --unconfirmed, any trial.")
@click.option("--unconfirmed", is_flag=True, help="Take the search's own trial: one seed, validation images.")
@click.option("--simplest", is_flag=True, help="Stay within one standard error of the best; needs 'icd ablate NAME'.")
@click.option(
    "--format",
    "formats",
    type=click.Choice(["onnx", "pt2"]),
    multiple=True,
    help="Write this kind of program.  [default: all; repeatable]",
)
@click.option(
    "--register",
    is_flag=False,
    flag_value="",
    metavar="[MODEL]",
    help="Put it into MLflow's registry.  [default: under the sweep's name]",
)
@click.option("--alias", help="Give the registered version this alias; goes with --register.  [default: best]")
@click.option("--force", is_flag=True, help="Replace existing files.")
@DATA_ROOT
@READ
def export(
    name: str, output: Path, formats: tuple[Any, ...], register: str | None, as_json: bool, **options: Any
) -> None:
    """Write the confirmed winner of sweep NAME: a configuration that 'icd train' runs, weights, programs and a card."""
    from icd.results import export as export_files

    model = True if register == "" else register or False
    made = export_files(name, output, formats=formats or None, register=model, **options)
    write(made, _lines(name, made, options["data_root"]), as_json=as_json)


def _lines(name: str, made: "Exported", data_root: Path | None) -> list[str]:
    from icd.results.exports.run import train_command

    lines = [f"trial {made.trial} of {name}: {', '.join(str(path) for path in made.files)}"]
    if not made.confirmed:
        lines.append(made.provenance["status"])
    for file, difference in made.differences.items():
        lines.append(f"{file}: logits within {difference:.2g} of the student's on {made.compared_on}")
    if made.registered is not None:
        lines.append(f"registered: {made.registered.uri}, version {made.registered.version}")
        if not made.registered.loadable:
            lines.append("it holds files and no model that MLflow can load: that needs student.onnx")
    again = (train_command(one.config, data_root, one.measure_on) for one in [*made.pairs.values()] or [made])
    return [*lines, *(f"train it again: {command}" for command in again)]
