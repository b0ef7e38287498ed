"""The tracker against real MLflow stores and servers: every run and row exactly once, whatever is killed."""

import os
import random
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from icd.errors import SetupError
from icd.search.leaderboard import NOTE_TAG, VIEW_TAG
from icd.search.mlflow_store import check_server
from icd.search.outbox import Outbox
from icd.search.outbox_reader import OFFSET_NAME, REFUSED_NAME
from icd.search.service_facts import tracking_facts
from icd.search.track import Tracker, flush
from tests.tracking import PARAMS, Held, Server, begin_trial, end_trial, free_port, say_epoch, say_trial

pytestmark = pytest.mark.integration
UID = "f00d"


@pytest.fixture
def sweep(tmp_path: Path) -> Path:
    folder = tmp_path / "sweep"
    folder.mkdir()
    return folder


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """An empty MLflow database, made once: its migrations take seconds."""
    folder = tmp_path_factory.mktemp("template")
    (folder / "sweep").mkdir()
    outbox = Outbox(folder / "sweep")
    outbox.sweep(time_ms=1, name="x", params={}, tags={}, note="x")
    assert flush(folder / "sweep", f"sqlite:///{folder}/mlflow.db", "template", "0", 120.0) == 0
    return (folder / "mlflow.db").read_bytes()


@pytest.fixture
def database(tmp_path: Path, template: bytes) -> Path:
    path = tmp_path / "mlflow.db"
    path.write_bytes(template)
    return path


def send(sweep: Path, uri: str, experiment: str = "sweep", said: list[str] | None = None) -> None:
    announce = said.append if said is not None else (lambda line: None)
    assert flush(sweep, uri, experiment, UID, 60.0, announce) == 0


def sqlite(database: Path) -> str:
    return f"sqlite:///{database}"


def test_what_arrives(sweep: Path, database: Path) -> None:
    outbox = Outbox(sweep)
    outbox.sweep(time_ms=5, name="sweep", params={"student": "x"}, tags={}, note="Which weights?")
    for number, state in enumerate(("complete", "pruned", "failed")):
        say_trial(outbox, number, state=state)
    begin_trial(outbox, 3)
    say_epoch(outbox, 3, 1)
    said: list[str] = []
    send(sweep, sqlite(database), said=said)
    holds = Held(database)
    assert said == []
    assert {run: holds.status[run] for run in sorted(holds.status) if run != "summary"} == {
        "0000": "FINISHED",
        "0001": "FINISHED",
        "0002": "FAILED",
        "0003": "RUNNING",
    }
    states = {run: holds.tags[run, "state"] for run in ("0000", "0001", "0002", "0003")}
    assert states == {"0000": "complete", "0001": "pruned", "0002": "failed", "0003": "running"}
    assert [(name, value) for run, name, value in holds.params if run == "0000"] == sorted(PARAMS.items())
    assert ("0001", "val/top1", 2, 51.2, 1_790_000_120_001) in holds.metrics
    assert holds.end_ms["0000"] == 1_790_010_000_000
    assert "Which weights?" in holds.experiment_tags[NOTE_TAG]
    assert "workflowType=machine_learning" in holds.experiment_tags[NOTE_TAG]
    assert VIEW_TAG in holds.experiment_tags


def test_replay_changes_nothing(sweep: Path, database: Path) -> None:
    outbox = Outbox(sweep)
    outbox.sweep(time_ms=5, name="sweep", params={}, tags={}, note="?")
    for number in range(3):
        say_trial(outbox, number, epochs=5)
    send(sweep, sqlite(database))
    first = Held(database)
    first.check_once(3, 5)
    for _ in range(2):
        (sweep / OFFSET_NAME).unlink()
        send(sweep, sqlite(database))
        again = Held(database)
        assert vars(again) == vars(first)


def test_files_are_uploaded_once_and_missing_ones_are_said(sweep: Path, database: Path) -> None:
    outbox = Outbox(sweep)
    figure = sweep / "trials" / "0000" / "figures" / "curves.png"
    figure.parent.mkdir(parents=True)
    figure.write_bytes(b"first")
    begin_trial(outbox, 0)
    end_trial(outbox, 0, artifacts=("trials/0000/figures/curves.png", "trials/0000/none.png"))
    said: list[str] = []
    send(sweep, sqlite(database), said=said)
    (stored,) = database.parent.glob("mlartifacts/*/*/artifacts/figures/curves.png")
    assert stored.read_bytes() == b"first"
    assert len(said) == 1
    assert "none.png is not there" in said[0]
    figure.write_bytes(b"second")
    (sweep / OFFSET_NAME).unlink()
    send(sweep, sqlite(database))
    assert stored.read_bytes() == b"first"


def test_a_poison_event_does_not_block_the_rest(sweep: Path, database: Path) -> None:
    outbox = Outbox(sweep)
    say_trial(outbox, 0)
    send(sweep, sqlite(database))
    changed = (sweep / "outbox.jsonl").read_bytes().replace(b'"base_loss":"dkd"', b'"base_loss":"kd"')
    (sweep / "outbox.jsonl").write_bytes(changed)  # params cannot be changed
    say_trial(Outbox(sweep), 1)
    (sweep / OFFSET_NAME).unlink()
    said: list[str] = []
    send(sweep, sqlite(database), said=said)
    Held(database).check_once(2, 3)
    assert len(said) == 1
    assert "WARNING: MLflow refused data of run 0000" in said[0]
    (refused,) = (sweep / REFUSED_NAME).read_text().splitlines()
    assert '"params": ["base_loss", "kd"]' in refused


def test_a_deleted_experiment_is_said_and_loses_nothing(sweep: Path, database: Path) -> None:
    from mlflow import MlflowClient

    client = MlflowClient(sqlite(database))
    identity = client.create_experiment("gone")
    client.delete_experiment(identity)
    say_trial(Outbox(sweep), 0)
    said: list[str] = []
    assert flush(sweep, sqlite(database), "gone", UID, 3.0, said.append) == 5
    assert len(said) == 1
    assert "experiment 'gone' was deleted" in said[0]
    client.restore_experiment(identity)
    send(sweep, sqlite(database), "gone")
    Held(database).check_once(1, 3)


def test_a_second_run_of_a_trial_is_removed(sweep: Path, database: Path) -> None:
    from mlflow import MlflowClient

    outbox = Outbox(sweep)
    begin_trial(outbox, 0)
    send(sweep, sqlite(database))
    client = MlflowClient(sqlite(database))
    experiment = client.get_experiment_by_name("sweep")
    client.create_run(experiment.experiment_id, tags={"icd.trial": f"{UID}/0000"})
    say_trial(outbox, 0)
    send(sweep, sqlite(database))
    Held(database).check_once(1, 3)


def test_addresses_that_cannot_work(tmp_path: Path) -> None:
    with pytest.raises(SetupError, match=r"must be http\(s\):// or a database, but got './mlruns'"):
        check_server("./mlruns")
    with pytest.raises(SetupError, match="must be a folder that can be written"):
        check_server(f"sqlite:///{tmp_path}/none/mlflow.db")
    warning = check_server(f"http://me:secret@127.0.0.1:{free_port()}")
    assert warning is not None
    assert warning.startswith("tracking unreachable")
    assert "secret" not in warning
    assert check_server(f"sqlite:///{tmp_path}/mlflow.db") is None


HOST = """
import sys, time
from pathlib import Path
from icd.search.track import Tracker
Tracker(Path(sys.argv[1]), sys.argv[2], "sweep", sys.argv[3], lambda line: None).start()
from icd.search.outbox import Outbox
from tests.tracking import begin_trial, end_trial, say_epoch
outbox = Outbox(Path(sys.argv[1]))
mine = range(2 * int(sys.argv[4]), 2 * int(sys.argv[4]) + 2)
for number in mine:
    begin_trial(outbox, number)
for epoch in range(1, 31):
    for number in mine:
        say_epoch(outbox, number, epoch)
    time.sleep(0.02)
for number in mine:
    end_trial(outbox, number)
time.sleep(60)
"""


@pytest.mark.slow
def test_ten_kills_of_the_driver_lose_and_double_nothing(sweep: Path, database: Path) -> None:
    seed = random.Random(7)
    offset = sweep / OFFSET_NAME
    for kill in range(10):
        before = offset.read_text() if offset.exists() else ""
        process = subprocess.Popen([sys.executable, "-c", HOST, str(sweep), sqlite(database), UID, str(kill)])
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and (not offset.exists() or offset.read_text() == before):
            assert process.poll() is None
            time.sleep(0.01)
        # It has sent its first batch. Kill it in the middle of the next ones; four times with the offset lost too.
        time.sleep(seed.random())
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        if kill % 3 == 0:
            offset.unlink(missing_ok=True)
    outbox = Outbox(sweep)
    for number in range(20):
        say_trial(outbox, number, epochs=30)
    send(sweep, sqlite(database))
    holds = Held(database)
    holds.check_once(20, 30)
    assert set(holds.status.values()) == {"FINISHED"}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, template: bytes) -> Iterator[Server]:
    server = Server(tmp_path_factory.mktemp("server"))
    server.database.write_bytes(template)
    server.start()
    yield server
    server.kill()


@pytest.mark.slow
def test_the_doctor_tries_a_server_and_cleans_up(server: Server) -> None:
    for runs in (1, 2):  # what MLflow keeps of the first time does not stand in the way of the second
        facts = tracking_facts(server.uri.replace("//", "//me:s3cr3t@"))
        assert (facts["where"], facts["error"]) == (server.uri, "")
        assert facts["milliseconds"] is not None
        with sqlite3.connect(server.database) as connection:
            kept = connection.execute("select lifecycle_stage from experiments where name = 'icd-doctor'").fetchall()
            lost = connection.execute(
                "select count(*) from runs join experiments using (experiment_id) "
                "where experiments.name = 'icd-doctor' and runs.lifecycle_stage = 'deleted'"
            ).fetchone()
        connection.close()
        assert (kept, lost) == ([("deleted",)], (runs,))


@pytest.mark.slow
def test_a_server_that_is_killed_and_comes_back(sweep: Path, server: Server) -> None:
    said: list[str] = []
    tracker = Tracker(sweep, server.uri, "killed", "dead", said.append)
    tracker.start()
    outbox = Outbox(sweep)
    waits = []

    def timed(call: object, *words: object) -> None:
        started = time.perf_counter()
        call(*words)  # type: ignore[operator]
        waits.append(time.perf_counter() - started)

    for number in range(4):
        timed(begin_trial, outbox, number)
    for epoch in range(1, 21):
        if epoch == 6:
            server.kill()
        if epoch == 14:
            server.start(wait=False)
        for number in range(4):
            timed(say_epoch, outbox, number, epoch)
        time.sleep(0.3)
    for number in range(4):
        timed(end_trial, outbox, number)
    server.wait()
    began, count = time.perf_counter(), tracker.pending()
    assert tracker.close(60.0) == 0
    print(f"append max {max(waits) * 1e3:.1f} ms; {count} events in {time.perf_counter() - began:.2f} s; {said}")  # noqa: T201
    Held(server.database, "dead").check_once(4, 20)
    assert max(waits) < 1.0
    assert said[0].startswith("tracking unreachable, buffering (")
    assert said[1].startswith("tracking flows again")
    assert len(said) == 2
    assert check_server(server.uri) is None


class LossyProxy:
    """Passes each request on and drops the answer of one in five: the server did it, and we do not know."""

    def __init__(self, port: int) -> None:
        self.target, self.count, self.dropped = port, 0, 0
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.uri = f"http://127.0.0.1:{self.listener.getsockname()[1]}"
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self._pass_on, args=(client,), daemon=True).start()

    def _pass_on(self, client: socket.socket) -> None:
        with client, client.makefile("rb") as reader:
            lines = []
            while (line := reader.readline()) not in (b"\r\n", b""):
                lines.append(line)
            lengths = [int(line.split(b":")[1]) for line in lines if line.lower().startswith(b"content-length")]
            kept = [line for line in lines if not line.lower().startswith(b"connection")]
            request = b"".join([*kept, b"Connection: close\r\n\r\n", reader.read(sum(lengths))])
            with socket.create_connection(("127.0.0.1", self.target)) as server:
                server.sendall(request)
                answer = b"".join(iter(lambda: server.recv(65536), b""))
            self.count += 1
            if self.count % 5 == 0:
                self.dropped += 1
            else:
                client.sendall(answer)


@pytest.mark.slow
def test_answers_that_are_lost_double_nothing(sweep: Path, server: Server) -> None:
    proxy = LossyProxy(server.port)
    outbox = Outbox(sweep)
    for number in range(8):
        say_trial(outbox, number, epochs=10)
    assert flush(sweep, proxy.uri, "lossy", "1055", 100.0) == 0
    proxy.listener.close()
    assert proxy.dropped >= 5
    holds = Held(server.database, "1055")
    holds.check_once(8, 10)
    assert set(holds.status.values()) == {"FINISHED"}
