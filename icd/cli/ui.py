"""``icd ui``: MLflow and optuna-dashboard on this machine, for as long as the command runs."""

import http.client
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
from contextlib import ExitStack
from pathlib import Path

import click

from icd.cli.options import NAME, ROOT, Verb
from icd.cli.signals import handled
from icd.errors import SetupError, StateError, UsageError

logger = logging.getLogger(__name__)

_PORT = click.IntRange(1, 65535)


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
    except (ValueError, LookupError, TypeError, http.client.HTTPException):  # such as the page of a login
        raise SetupError(f"{shown} does not answer as MLflow does; check MLFLOW_TRACKING_URI") from None
    return leaderboard_url(shown, str(experiment["experiment_id"]))
