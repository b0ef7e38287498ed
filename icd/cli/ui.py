"""``icd ui``: MLflow and optuna-dashboard on this machine, for as long as the command runs."""

import importlib.util
import json
import logging
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
import webbrowser
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple

import click

from icd.cli.root import ROOT
from icd.cli.show import NAME
from icd.errors import SetupError, StateError
from icd.search import default_root
from icd.search.leaderboard import leaderboard_url, without_password
from icd.search.mlflow_file import ARTIFACTS, ready
from icd.search.storage import storage_url
from icd.search.studies import find, pasted, tracking_uri

logger = logging.getLogger(__name__)

_HOST = "127.0.0.1"
_START_S = 120.0
_GRACE_S = 10.0
_PORT = click.IntRange(1, 65535)
# The database's address travels by the environment: a command line can be read by everyone on the machine.
_DASHBOARD = (
    "import os, sys, optuna_dashboard as d; d.run_server(os.environ['ICD_UI_STORAGE'], sys.argv[1], int(sys.argv[2]))"
)


class Server(NamedTuple):
    """A server that was started here."""

    process: "subprocess.Popen[bytes]"
    address: str
    health: str
    log: Path


@click.command()
@NAME
@click.option("--port", type=_PORT, help="Of MLflow [a free one].")
@click.option("--dashboard-port", type=_PORT, help="Of optuna-dashboard [a free one].")
@click.option("--no-browser", is_flag=True, help="Print the links only.")
@ROOT
def ui(name: str, port: int | None, dashboard_port: int | None, no_browser: bool, root: Path | None) -> None:
    """Open sweep NAME in MLflow, and in optuna-dashboard if it is installed; Ctrl-C ends both.

    Where MLFLOW_TRACKING_URI is a server, its page is opened instead of starting one.
    """
    where = root or default_root()
    find(where, name)
    uri = tracking_uri(where)
    with ExitStack() as servers, _until_signal() as over:
        started = []
        if not uri.startswith(("http://", "https://")):
            started.append(servers.enter_context(_mlflow(where, uri, port or free_port())))
        base = started[0].address if started else uri
        if importlib.util.find_spec("optuna_dashboard") is not None:
            started.append(servers.enter_context(_dashboard(where, dashboard_port or free_port())))
        else:
            logger.info("no optuna-dashboard, which shows the study's history too: pip install '.[dashboard]'")
        if not all(_answers(server, over) for server in started):
            return
        link = _leaderboard(base, name, pasted(where, "flush", name))
        click.echo(f"MLflow: {link}")
        for server in started:
            if server.address != base:
                click.echo(f"optuna-dashboard: {server.address}/dashboard")
        sys.stdout.flush()
        if not no_browser:
            webbrowser.open(link)
        if started:
            logger.info("Ctrl-C ends it")
            over.wait()


def free_port() -> int:
    """Find a port of the loopback interface that nobody uses."""
    with socket.socket() as probe:
        probe.bind((_HOST, 0))
        return int(probe.getsockname()[1])


def mlflow_words(port: int) -> list[str]:
    """Give the command line of a tracking server; its store comes by the environment."""
    hosts = f"localhost:{port},{_HOST}:{port}"  # compared with the whole Host header, port included
    words = ["-m", "mlflow", "server", "--host", _HOST, "--port", str(port), "--workers", "1", "--allowed-hosts", hosts]
    return [sys.executable, *words]


@contextmanager
def _mlflow(root: Path, uri: str, port: int) -> Iterator[Server]:
    ready(uri)
    environment = {
        "MLFLOW_BACKEND_STORE_URI": uri,
        "MLFLOW_ARTIFACTS_DESTINATION": str((root / ARTIFACTS).absolute()),
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",  # seven processes and 0.6 GB for nothing
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false",
    }
    with _running(mlflow_words(port), environment, root / "ui-mlflow.log") as process:
        yield Server(process, f"http://{_HOST}:{port}", "/health", root / "ui-mlflow.log")


@contextmanager
def _dashboard(root: Path, port: int) -> Iterator[Server]:
    words = [sys.executable, "-W", "ignore", "-c", _DASHBOARD, _HOST, str(port)]
    with _running(words, {"ICD_UI_STORAGE": storage_url(root)}, root / "ui-dashboard.log") as process:
        yield Server(process, f"http://{_HOST}:{port}", "/", root / "ui-dashboard.log")


@contextmanager
def _running(words: Sequence[str], environment: Mapping[str, str], log: Path) -> Iterator["subprocess.Popen[bytes]"]:
    """Run a server with its children in a session of its own, and end all of them."""
    with log.open("wb") as file:
        process = subprocess.Popen(
            words,
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=file,
            env={**{name: value for name, value in os.environ.items() if name != "MLFLOW_TRACKING_URI"}, **environment},
            start_new_session=True,
        )
    try:
        yield process
    finally:
        _end(process)


def _end(process: "subprocess.Popen[bytes]") -> None:
    for number, patience in ((signal.SIGTERM, _GRACE_S), (signal.SIGKILL, _GRACE_S)):
        try:
            os.killpg(process.pid, number)
        except ProcessLookupError:
            break
        try:
            process.wait(patience)
        except subprocess.TimeoutExpired:
            continue
    process.wait()


def _answers(server: Server, over: threading.Event) -> bool:
    """Wait until a server answers; False if the user ended it first.

    Raises:
        SetupError: If it died or does not answer.
    """
    deadline = time.monotonic() + _START_S
    while not over.is_set():
        if server.process.poll() is not None:
            code = server.process.returncode
            raise SetupError(
                f"the server of {server.address} ended with code {code} while it started; see {server.log}"
            )
        try:
            with urllib.request.urlopen(server.address + server.health, timeout=5):  # ours, on loopback
                return True
        except (urllib.error.URLError, OSError):
            if time.monotonic() > deadline:
                raise SetupError(f"{server.address} does not answer after {_START_S:.0f} s; see {server.log}") from None
        over.wait(0.2)
    return False


def _leaderboard(base: str, name: str, flush: str) -> str:
    """Give the link of the sweep's leaderboard.

    Raises:
        StateError: If the server does not know the sweep yet.
        SetupError: If it does not answer.
    """
    query = urllib.parse.urlencode({"experiment_name": name})
    shown = without_password(base)
    try:
        with urllib.request.urlopen(
            f"{shown.rstrip('/')}/api/2.0/mlflow/experiments/get-by-name?{query}", timeout=30
        ) as answer:
            experiment = json.load(answer)["experiment"]
    except urllib.error.HTTPError as error:
        if error.code == 404:
            raise StateError(f"MLflow has no experiment {name!r} yet; send it with '{flush}'") from None
        raise SetupError(f"{shown} answers {error.code}; open it in a browser that is logged in") from None
    except (urllib.error.URLError, OSError) as error:
        raise SetupError(f"{shown} does not answer: {error}") from None
    return leaderboard_url(shown, str(experiment["experiment_id"]))


@contextmanager
def _until_signal() -> Iterator[threading.Event]:
    """Turn Ctrl-C and SIGTERM into an event."""
    over = threading.Event()
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = {number: signal.signal(number, lambda *_: over.set()) for number in numbers}
    try:
        yield over
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
