"""``icd doctor | check-plugin``, and ``icd ui``: MLflow and optuna-dashboard here, for as long as the command runs."""

import importlib.util
import json
import logging
import signal
import sys
import threading
import urllib.error
import urllib.parse
import urllib.request
import webbrowser
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import click

from icd.cli.format import write
from icd.cli.options import DATA_ROOT, JSON, NAME, ROOT, Verb
from icd.cli.signals import handled
from icd.errors import ConfigError, Problem, SetupError, StateError
from icd.text import columns

if TYPE_CHECKING:
    from icd.doctor.diagnosis import Finding

logger = logging.getLogger(__name__)

_PORT = click.IntRange(1, 65535)
_SIGNS = {"pass": "ok", "warn": "warn", "fail": "FAIL"}


@click.command(cls=Verb)
@JSON
@ROOT
@click.option("--cluster", is_flag=True, help="Check a Ray cluster: every node, its clock, folder, GPUs, network.")
@click.option("--address", default="auto", show_default=True, help="Check this cluster: auto, or HOST:PORT.")
@DATA_ROOT
@click.option(
    "--timeout",
    type=click.FloatRange(min=1),
    default=120.0,
    show_default=True,
    help="Wait so many seconds for a node.",
)
def doctor(as_json: bool, root: Path, cluster: bool, address: str, data_root: Path | None, timeout: float) -> None:
    """Check versions, imports, devices and write permission; exits with 3 if something needs doing."""
    from icd.doctor.diagnosis import worst

    if cluster:
        from icd.doctor.cluster import check_cluster

        address, findings = check_cluster(address, root, data_root, timeout_s=timeout)
        lines = cluster_lines(address, findings)
    else:
        from icd.doctor.machine import check_machine

        findings = check_machine(root)
        lines = [f"{_SIGNS[item.level]:4s} {item.check:13s} {_told(item)}" for item in findings]
    told = {"ok": worst(findings) != "fail", "findings": [finding._asdict() for finding in findings]}
    write(told, lines, as_json=as_json)
    failed = [f"{item.check} ({item.where})" if cluster else item.check for item in findings if item.level == "fail"]
    if failed:
        raise SetupError(f"needs attention: {', '.join(dict.fromkeys(failed))}")


def cluster_lines(address: str, findings: "Sequence[Finding]") -> list[str]:
    """Write findings for people."""
    checks = list(dict.fromkeys(finding.check for finding in findings))
    names = list(dict.fromkeys(finding.where for finding in findings))
    rows = [[where, *(_sign(findings, where, check) for check in checks)] for where in names]
    nodes = len({finding.where for finding in findings if finding.check == "answers"})
    lines = [
        f"cluster at {address}: {nodes} node{'s' * (nodes != 1)}",
        "",
        *columns(["", *checks], rows, left=["", *checks]),
    ]
    problems = [finding for level in ("fail", "warn") for finding in findings if finding.level == level]
    told = [f"{_SIGNS[item.level]:4s}  {item.check}  {item.where}: {_told(item)}" for item in problems]
    return [*lines, "", *(told or ["nothing needs doing"])]


def _told(finding: "Finding") -> str:
    return f"{finding.text}; {finding.advice}" if finding.advice else finding.text


def _sign(findings: "Sequence[Finding]", where: str, check: str) -> str:
    from icd.doctor.diagnosis import worst

    here = [finding for finding in findings if (finding.where, finding.check) == (where, check)]
    return _SIGNS[worst(here)] if here else "-"


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
    lines = []
    for item in found:
        verdict = f"{len(item.failed)} of its checks fail" if item.failed else item.skipped or "passes"
        lines.append(f"{item.what} {item.name}: {verdict}")
    write([item._asdict() for item in found], lines, as_json=as_json)
    failed = [(item, line) for item in found for line in item.failed]
    if failed:
        raise ConfigError(
            Problem(source=item.source or Path(file).name, line=item.line, path=f"{item.what} {item.name}", rule=rule)
            for item, rule in failed
        )


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

    find(root, name)
    uri = tracking_uri(root)
    over = threading.Event()
    with ExitStack() as servers, handled(lambda *_: over.set(), (signal.SIGINT, signal.SIGTERM)):
        started = []
        if not uri.startswith(("http://", "https://")):
            started.append(servers.enter_context(mlflow_server(root, uri, port or free_port())))
        base = started[0].address if started else uri
        if importlib.util.find_spec("optuna_dashboard") is not None:
            started.append(servers.enter_context(dashboard_server(root, dashboard_port or free_port())))
        else:
            logger.info("no optuna-dashboard, which shows the study's history too: pip install '.[dashboard]'")
        if not all(answers(server, over) for server in started):
            return
        link = _leaderboard(base, name, pasted(root, "sync", name))
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


def _leaderboard(base: str, name: str, sync: str) -> str:
    """Give the link of the sweep's leaderboard.

    Raises:
        StateError: If the server does not know the sweep yet.
        SetupError: If it does not answer.
    """
    from icd.search.tracking.mlflow_pages import leaderboard_url, without_password

    query = urllib.parse.urlencode({"experiment_name": name})
    shown = without_password(base)
    try:
        with urllib.request.urlopen(
            f"{shown.rstrip('/')}/api/2.0/mlflow/experiments/get-by-name?{query}", timeout=30
        ) as answer:
            experiment = json.load(answer)["experiment"]
    except urllib.error.HTTPError as error:
        if error.code == 404:
            raise StateError(f"MLflow has no experiment {name!r} yet; send it with '{sync}'") from None
        raise SetupError(f"{shown} answers {error.code}; open it in a browser that is logged in") from None
    except (urllib.error.URLError, OSError) as error:
        raise SetupError(f"{shown} does not answer: {error}") from None
    return leaderboard_url(shown, str(experiment["experiment_id"]))
