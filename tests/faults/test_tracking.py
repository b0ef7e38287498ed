"""The tracker while drivers and servers are killed and answers are lost: every run and row exactly once."""

import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from icd.search.tracking.mlflow_client import check_server
from icd.search.tracking.outbox import Outbox
from icd.search.tracking.outbox_sender import OutboxSender, flush
from tests.support.trackers import EPOCHS, kill_trackers
from tests.tracking import Held, Server, begin_trial, end_trial, say_epoch, say_trial

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


def test_ten_kills_of_the_driver_lose_and_double_nothing(sweep: Path, database: Path) -> None:
    kills = 10
    kill_trackers(sweep, sqlite(database), UID, kills)
    outbox = Outbox(sweep)
    for number in range(2 * kills):
        say_trial(outbox, number, epochs=EPOCHS)
    send(sweep, sqlite(database))
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
    tracker = OutboxSender(sweep, server.uri, "killed", "dead", said.append)
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
