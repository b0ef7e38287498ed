"""The tracker while drivers and servers are killed and answers are lost: every run and row exactly once."""

import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from icd.search.tracking.experiment import Experiment
from icd.search.tracking.mlflow_client import check_server
from icd.search.tracking.tracker import Tracker
from tests.support.trackers import EPOCHS, kill_trackers
from tests.tracking import Held, Server, ask, begun, ended, row, send

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
    assert (
        send(folder, f"sqlite:///{folder}/mlflow.db", [begun(0)], experiment="template", uid="0", deadline_s=120) == 0
    )
    return (folder / "mlflow.db").read_bytes()


def test_ten_kills_of_the_driver_lose_and_double_nothing(sweep: Path, tmp_path: Path, template: bytes) -> None:
    kills, database = 10, tmp_path / "mlflow.db"
    database.write_bytes(template)
    kill_trackers(sweep, database, UID, kills)
    assert send(sweep, f"sqlite:///{database}", [ended(number, EPOCHS) for number in range(2 * kills)]) == 0
    holds = Held(database)
    holds.check_once(2 * kills, EPOCHS)
    assert set(holds.status.values()) == {"FINISHED"}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, template: bytes) -> Iterator[Server]:
    server = Server(tmp_path_factory.mktemp("server"))
    server.database.write_bytes(template)
    server.start()
    yield server
    server.kill()


def test_a_server_that_is_killed_and_comes_back(sweep: Path, server: Server) -> None:
    said: list[str] = []
    tracker = Tracker(said.append)
    tracker.start(Experiment(sweep, server.uri, "killed", "dead", tracker.refuse))
    for number in range(4):
        tracker.begin(begun(number))
    for epoch in range(1, 21):
        if epoch == 6:
            server.kill()
        if epoch == 14:
            server.start(wait=False)
        for number in range(4):
            tracker.epoch(f"{number:04d}", row(number, epoch))
        time.sleep(0.3)
    ask(tracker, [ended(number, 20) for number in range(4)])
    server.wait()
    assert tracker.close(60.0) == 0
    Held(server.database, "dead").check_once(4, 20)
    assert said[0].startswith("tracking unreachable, ")
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


def test_answers_that_are_lost_double_nothing(sweep: Path, server: Server) -> None:
    proxy = LossyProxy(server.port)
    views = [ended(number, 10) for number in range(8)]
    assert send(sweep, proxy.uri, views, experiment="lossy", uid="1055", deadline_s=400) == 0
    proxy.listener.close()
    assert proxy.dropped >= 5
    holds = Held(server.database, "1055")
    holds.check_once(8, 10)
    assert set(holds.status.values()) == {"FINISHED"}
