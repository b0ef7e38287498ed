"""MLflow and optuna-dashboard as servers on this machine, each for as long as a block lasts."""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

from icd.errors import SetupError
from icd.search.study.database import storage_url
from icd.search.tracking.mlflow_client import refuse_address
from icd.search.tracking.mlflow_file import ARTIFACTS, ready

_HOST = "127.0.0.1"
_START_S = 120.0
_GRACE_S = 10.0
# The database's address travels by the environment: a command line can be read by everyone on the machine.
_DASHBOARD = (
    "import os, sys, optuna_dashboard as d; d.run_server(os.environ['ICD_UI_STORAGE'], sys.argv[1], int(sys.argv[2]))"
)


class Server(NamedTuple):
    """A server that was started here, and the page that it answers with once it is ready."""

    process: "subprocess.Popen[bytes]"
    address: str
    health: str
    log: Path


def free_port(asked: int | None = None) -> int:
    """Give the port of the loopback interface that is asked for, or any that nobody uses.

    Raises:
        SetupError: If somebody uses it: whoever answers there would be taken for the server that is to be started.
    """
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as servers do: one that has ended leaves it free
        try:
            probe.bind((_HOST, asked or 0))
        except OSError as error:
            told = f"port {asked} cannot be served on: {error.strerror}; choose another, or leave it out for a free one"
            raise SetupError(told) from error
        return int(probe.getsockname()[1])


def mlflow_server(root: Path, uri: str, port: int) -> AbstractContextManager[Server]:
    """Serve MLflow from its store while the block lasts; an address that can never work is refused."""
    refuse_address(uri)
    hosts = f"localhost:{port},{_HOST}:{port}"  # compared with the whole Host header, port included
    words = ["-m", "mlflow", "server", "--host", _HOST, "--port", str(port), "--workers", "1", "--allowed-hosts", hosts]
    environment = {
        "MLFLOW_BACKEND_STORE_URI": uri,
        "MLFLOW_ARTIFACTS_DESTINATION": str((root / ARTIFACTS).absolute()),
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",  # seven processes and 0.6 GB for nothing
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false",
    }
    return _running(words, environment, port, "/health", root / "ui-mlflow.log", lambda: ready(uri))


def dashboard_server(root: Path, port: int) -> AbstractContextManager[Server]:
    """Serve optuna-dashboard while the block lasts."""
    words = ["-W", "ignore", "-c", _DASHBOARD, _HOST, str(port)]
    return _running(words, {"ICD_UI_STORAGE": storage_url(root)}, port, "/", root / "ui-dashboard.log")


@contextmanager
def _running(
    words: Sequence[str],
    environment: Mapping[str, str],
    port: int,
    health: str,
    log: Path,
    prepare: Callable[[], None] = lambda: None,
) -> Iterator[Server]:
    """Run a server with its children in a session of its own, once its log can be written, and end all of them."""
    try:
        file = log.open("wb")
    except OSError as error:
        raise SetupError(f"{log} cannot be written: {error.strerror}; choose --root") from error
    with file:
        prepare()
        process = subprocess.Popen(
            [sys.executable, *words],
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=file,
            env={**{name: value for name, value in os.environ.items() if name != "MLFLOW_TRACKING_URI"}, **environment},
            start_new_session=True,
        )
    try:
        yield Server(process, f"http://{_HOST}:{port}", health, log)
    finally:
        for number in (signal.SIGTERM, signal.SIGKILL):
            with suppress(ProcessLookupError, subprocess.TimeoutExpired):
                os.killpg(process.pid, number)
                process.wait(_GRACE_S)
        process.wait()


def answers(server: Server, over: threading.Event) -> bool:
    """Wait until a server answers; False if the user ended it first.

    Raises:
        SetupError: If it died or does not answer.
    """
    deadline = time.monotonic() + _START_S
    while not over.is_set():
        if server.process.poll() is not None:
            how = f"ended with code {server.process.returncode} while it started"
            raise SetupError(f"the server of {server.address} {how}; see {server.log}")
        try:
            with urllib.request.urlopen(server.address + server.health, timeout=5):  # ours, on loopback
                return True
        except OSError:
            if time.monotonic() > deadline:
                raise SetupError(f"{server.address} does not answer after {_START_S:.0f} s; see {server.log}") from None
        over.wait(0.2)
    return False
