"""A real sweep on Ray and in plain processes: who can reach it, and where its secrets are to be found (nowhere)."""

import contextlib
import http.server
import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import sqlalchemy
import yaml

from icd.search.executors.ray.security import Listener, is_loopback, is_open, listeners
from tests.command import Command
from tests.documents import document_of
from tests.integration.ray_nodes import ROOT, command_of
from tests.integration.ray_sweeps import document
from tests.support.needs import need
from tests.support.postgres import Postgres, binaries
from tests.tracking import free_port

pytestmark = pytest.mark.timeout(600)

DECLARED = (ROOT / "docs" / "administration" / "security.md").read_text(encoding="utf-8")
NAMES = {
    *("PGPASSWORD", "MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD", "MLFLOW_TRACKING_TOKEN"),
    *("RAY_AUTH_TOKEN", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"),
}


class Seen:
    """What a sweep showed to somebody who looked all the time."""

    def __init__(self, canaries: dict[str, str]) -> None:
        self.canaries = canaries
        self.sockets: dict[Listener, str] = {}
        self.named: dict[Listener, str] = {}
        self.leaks: set[str] = set()
        self.modes: set[int] = set()
        self.open: bool | None = None

    def look_for(self, data: bytes, where: object) -> None:
        self.leaks |= {f"{name} in {where}" for name, value in self.canaries.items() if value.encode() in data}

    def search(self, folder: Path) -> None:
        for path in folder.rglob("*"):
            with contextlib.suppress(OSError):  # it may be a socket, or gone
                if path.is_file() and path.name != "token":
                    self.look_for(path.read_bytes(), path)

    def watch(self, driver: "subprocess.Popen[str]", temp: Path) -> None:
        before, self.named = self.named, {found: program(found.pid) for found in listeners(driver.pid)}
        for found, name in self.named.items():  # until it has its program, a process has its parent's name
            agreed = name if name == before.get(found) else ""
            self.sockets[found] = "icd" if found.pid == driver.pid else agreed or self.sockets.get(found, "gone")
        for pid in [driver.pid, *(child.pid for child in psutil.Process(driver.pid).children(recursive=True))]:
            self.look_for(command_of(pid).encode(), f"the command line of {command_of(pid)[:60]}")
        for token in temp.glob("icd-ray-*/token"):
            with contextlib.suppress(OSError):
                self.modes |= {token.stat().st_mode & 0o777, token.parent.stat().st_mode & 0o777}
                self.canaries["token"] = token.read_text() or self.canaries["token"]
        heads = [found for found, name in self.sockets.items() if name == "gcs_server"]
        if heads and self.open is None and driver.poll() is None:
            self.open = is_open(f"127.0.0.1:{heads[0].port}")


def program(pid: int) -> str:
    """Name a process as the table does."""
    words = command_of(pid).split()
    if not words:
        return ""
    if words[0].startswith("ray::"):
        return "ray::DashboardAgent" if words[0] == "ray::DashboardAgent" else "ray::"
    if any(word.endswith("default_worker.py") for word in words[1:3]):
        return "ray::"  # it has not taken its title yet
    script = next((word for word in words[1:] if word.endswith(".py")), "")
    return Path(script if Path(words[0]).name.startswith("python") and script else words[0]).name


def declared(kind: str) -> set[str]:
    """Give the processes of the table that a verb may start."""
    rows = [line.split("|")[1:-1] for line in DECLARED.splitlines() if line.startswith("| `")]
    found = {row[0].strip().strip("`"): row for row in rows if len(row) == 4}
    assert all(row[3].strip() == "loopback" for row in found.values())
    return {name for name, row in found.items() if ("icd ui" in row[1]) == (kind == "ui")}


@pytest.fixture(scope="module")
def database() -> Iterator[str]:
    """A database whose address has a password; gives the part after it."""
    where = binaries()
    need("postgres", where is not None, "no initdb: apt-get install postgresql")
    assert where is not None
    folder = Path(tempfile.mkdtemp(prefix="icdt-pg-", dir="/tmp"))
    try:
        server = Postgres(folder, where)
        try:
            yield f"@127.0.0.1:{server.port}/study"
        finally:
            server.control("stop", "-m", "immediate")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module")
def swept(database: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Seen, Path, dict[str, str]]]:
    """Two sweeps with secrets in their environment: on Ray, looked at while it runs, and in plain processes."""
    folder = tmp_path_factory.mktemp("secrets")
    temp = Path(tempfile.mkdtemp(prefix="t-", dir="/tmp"))  # short, or Ray could not have its folder there
    canaries = {name: secrets.token_hex(16) for name in sorted(NAMES)}
    seen = Seen({**canaries, "url": secrets.token_hex(16), "token": secrets.token_hex(16)})
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("RAY_", "MLFLOW_", "ICD_"))}
    url = f"postgresql+psycopg2://icd:{seen.canaries['url']}{database}"
    environment = {**kept, **canaries, "ICD_STORAGE_URL": url, "TMPDIR": str(temp), "PYTHONPATH": str(ROOT)}
    try:
        for executor, epochs in (("ray", 3), ("process", 1)):
            file = folder / f"{executor}.yaml"
            plan: dict[str, Any] = document(folder, epochs=epochs, trials=1, max_concurrent=1)
            file.write_text(yaml.safe_dump(document_of({**plan, "name": executor})))
            words = ["--debug", "sweep", str(file), "--executor", executor, "--root", str(folder / "root")]
            with begun(environment, *words) as driver:
                while driver.poll() is None:
                    seen.watch(driver, temp)
                    seen.search(temp)
                    time.sleep(1)
                out, err = driver.communicate()
            seen.look_for((out + err).encode(), f"what the sweep on {executor} says")
            assert driver.returncode == 0, out + err
        yield seen, folder, environment
    finally:
        shutil.rmtree(temp, ignore_errors=True)


def set_secrets(patch: pytest.MonkeyPatch, environment: dict[str, str]) -> None:
    for name in (*NAMES, "ICD_STORAGE_URL", "MLFLOW_TRACKING_URI"):
        if name in environment:
            patch.setenv(name, environment[name])


@contextlib.contextmanager
def begun(environment: dict[str, str], *words: str) -> Iterator["subprocess.Popen[str]"]:
    process = subprocess.Popen(
        [sys.executable, "-m", "icd.cli.main", *words],
        cwd=ROOT,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()


def test_all_sockets_are_declared_and_on_loopback(swept: tuple[Seen, Path, dict[str, str]]) -> None:
    sockets = swept[0].sockets
    assert {"icd", "gcs_server", "raylet", "ray::"} <= set(sockets.values())
    assert set(sockets.values()) - {"gone"} <= declared("sweep")
    assert [found for found in sockets if not is_loopback(found.address)] == []


def test_a_stranger_is_refused(swept: tuple[Seen, Path, dict[str, str]]) -> None:
    assert swept[0].open is False
    assert swept[0].modes == {0o600, 0o700}


def test_no_secret_is_found_anywhere(
    swept: tuple[Seen, Path, dict[str, str]], command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen, folder, environment = swept
    set_secrets(monkeypatch, environment)
    root = folder / "root"
    best = folder / "best.yaml"
    for words in (
        ["trials", "process", "--json"],
        ["export", "process", "--unconfirmed", "-o", str(best)],
        ["doctor", "--json"],
    ):
        told = command(*words, "--root", str(root))
        assert told.code == 0, told.err
        seen.look_for((told.out + told.err).encode(), words)
    assert best.exists()
    assert list(root.rglob("report.html"))
    assert (root / "mlflow.db").exists()
    seen.search(folder)
    engine = sqlalchemy.create_engine(environment["ICD_STORAGE_URL"], poolclass=sqlalchemy.NullPool)
    tables = sqlalchemy.MetaData()
    tables.reflect(engine)
    with engine.connect() as connection:
        for table in tables.sorted_tables:
            rows = [tuple(row) for row in connection.execute(sqlalchemy.select(table))]
            seen.look_for(repr(rows).encode(), f"table {table.name}")
    assert "trials" in tables.tables
    assert seen.leaks == set()
    seen.look_for(f"x{seen.canaries['url']}x".encode(), "here")  # the search finds what there is to find
    assert seen.leaks == {"url in here"}
    seen.leaks.clear()


class _Refusing(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(401)
        self.end_headers()

    do_POST = do_GET

    def log_message(self, *words: object) -> None:
        """Say nothing."""


@pytest.fixture
def refusing() -> Iterator[int]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Refusing)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.mark.parametrize("debug", [False, True], ids=["plain", "debug"])
def test_errors_show_no_password(
    swept: tuple[Seen, Path, dict[str, str]],
    database: str,
    refusing: int,
    debug: bool,
    command: Command,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    _, folder, environment = swept
    set_secrets(monkeypatch, environment)
    more = ["--debug"] if debug else []
    away, secret = free_port(), "s3cr3t-" + secrets.token_hex(8)
    root = ["--root", str(folder / "root")]
    cases: list[tuple[dict[str, str], list[str], str]] = [
        ({"ICD_STORAGE_URL": f"postgresql+psycopg2://icd:{secret}@127.0.0.1:{away}/study"}, ["status"], "refused"),
        ({"ICD_STORAGE_URL": f"postgresql+psycopg2://nobody:{secret}{database}"}, ["status"], "nobody"),
        ({"ICD_STORAGE_URL": f"nonsense://icd:{secret}@127.0.0.1/study"}, ["status"], "cannot be opened"),
        ({"MLFLOW_TRACKING_URI": f"http://me:{secret}@127.0.0.1:{refusing}"}, ["sync", "process"], "401"),
        ({"MLFLOW_TRACKING_URI": f"ftp://me:{secret}@127.0.0.1"}, ["doctor"], "MLflow"),
    ]
    for change, words, reason in cases:
        with pytest.MonkeyPatch.context() as patch:
            set_secrets(patch, change)
            told = command(*more, *words, *root)
        text = told.out + told.err
        assert told.code == 3, text
        assert reason in text
        assert secret not in text
        assert ("Traceback" in text) == debug


def test_a_password_in_a_file_is_refused(command: Command, tmp_path: Path) -> None:
    advice = "put it in the environment, not in YAML"
    cases = (({"password": "s3cr3t-value"}, "unknown key"), ({"note": "http://me:s3cr3t-value@host/x"}, advice))
    for number, (part, reason) in enumerate(cases):
        file = tmp_path / f"{number}.yaml"
        file.write_text(yaml.safe_dump(document_of({**document(tmp_path, epochs=1, trials=1), **part})))
        told = command("validate", file)
        assert told.code == 2, told.err
        assert reason in told.err
        assert "s3cr3t-value" not in told.out + told.err
