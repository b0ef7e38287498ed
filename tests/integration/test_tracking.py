"""Runs and rows in real MLflow stores and servers: each exactly once, whatever is killed; what is refused is said."""

import sqlite3
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient

from icd import search
from icd.doctor.services import check_tracking
from icd.errors import SetupError
from icd.search.tracking import experiment
from icd.search.tracking.experiment import Experiment
from icd.search.tracking.mlflow_client import check_server
from icd.search.tracking.mlflow_pages import NOTE_TAG, VIEW_TAG
from icd.search.tracking.run_view import SUMMARY, Row, RunView
from icd.search.tracking.sweep_views import ask_for_summary, follow
from icd.search.tracking.tracker import Tracker
from tests.confirming import confirming, searched
from tests.tracking import PARAMS, START_MS, Held, Server, ask, begun, ended, free_port, row, send

UID = "f00d"
SWEEP = RunView(key=SUMMARY, name="sweep", start_ms=5, params={"student": "x"}, note="Which weights?")


@pytest.fixture
def sweep(tmp_path: Path) -> Path:
    folder = tmp_path / "sweep"
    folder.mkdir()
    return folder


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """An empty MLflow database, made once: its migrations take seconds."""
    folder = tmp_path_factory.mktemp("template")
    assert send(folder, f"sqlite:///{folder}/mlflow.db", [SWEEP], experiment="template", uid="0", deadline_s=120) == 0
    return (folder / "mlflow.db").read_bytes()


@pytest.fixture
def database(tmp_path: Path, template: bytes) -> Path:
    path = tmp_path / "mlflow.db"
    path.write_bytes(template)
    return path


def sqlite(database: Path) -> str:
    return f"sqlite:///{database}"


def test_what_arrives(sweep: Path, database: Path) -> None:
    said: list[str] = []
    views = [ended(number, state=state) for number, state in enumerate(("complete", "pruned", "failed"))]
    assert send(sweep, sqlite(database), [SWEEP, *views, begun(3, epochs=1)], said) == 0
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
    assert ("0001", "cost/seconds", 0, 9.0, START_MS + 10**7) in holds.metrics
    assert holds.end_ms["0000"] == 1_790_010_000_000
    assert "Which weights?" in holds.experiment_tags[NOTE_TAG]
    assert "workflowType=machine_learning" in holds.experiment_tags[NOTE_TAG]
    assert VIEW_TAG in holds.experiment_tags


def test_asking_again_changes_nothing(sweep: Path, database: Path) -> None:
    views = [SWEEP, *(ended(number, epochs=5) for number in range(3)), begun(3, epochs=2)]
    assert send(sweep, sqlite(database), views) == 0
    first = Held(database)
    assert send(sweep, sqlite(database), views) == 0
    assert vars(Held(database)) == vars(first)


def test_a_driver_and_a_sync_send_the_same_of_every_stage(
    tmp_path: Path, database: Path, template: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """MLflow was away during the search: the driver of the confirmation is the first to reach it."""
    hand = searched(tmp_path, objective={"metric": "val/loss", "direction": "minimize"})
    held, holds = confirming(hand, top=1, seeds=2), list[Held]()
    held.finish_all(lambda arm, seed: 70.0 + seed)
    tracker, views = Tracker(lambda line: None), held.driver.recorder.views
    follow(tracker, views, held.ledger, driven=True)
    ask_for_summary(tracker, views, held.ledger, driven=False)
    tracker.start(Experiment(held.folder, sqlite(database), "tiny", UID, tracker.refuse))
    assert tracker.close(60) == 0
    other = database.with_name("other.db")
    other.write_bytes(template)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", sqlite(other))
    assert search.sync("tiny", root=hand.root) == 0
    of_search = {(f"{n:04d}", "final/val/loss"): 2.0 - n / 10 for n in range(4)}
    of_confirm = {(f"{run.number:04d}", "final/test/top1"): run.values[0] for run in held.runs}
    for path in (database, other):
        holds.append(Held(path))
        values = {(run, name): value for run, name, _, value, _ in holds[-1].metrics if name.startswith("final/")}
        assert values == of_search | of_confirm
        assert holds[-1].tags[SUMMARY, "best"] == "0003"
    assert (holds[0].metrics, holds[0].params) == (holds[1].metrics, holds[1].params)


def test_only_what_lies_beyond_the_last_step_is_sent(sweep: Path, database: Path) -> None:
    """An epoch that was trained again after its checkpoint was lost has another time, and must not be a second row."""
    assert send(sweep, sqlite(database), [begun(0, epochs=2)]) == 0
    later = [replace(row(0, epoch), time_ms=START_MS + 10**6 * epoch) for epoch in (1, 2, 3)]
    assert send(sweep, sqlite(database), [replace(ended(0), rows=later)]) == 0
    Held(database).check_once(1, 3)


def test_another_database_is_given_everything(sweep: Path, database: Path, template: bytes) -> None:
    views = [ended(number) for number in range(2)]
    assert send(sweep, sqlite(database), views) == 0
    first = Held(database)
    other = database.with_name("other.db")
    other.write_bytes(template)
    assert send(sweep, sqlite(other), views) == 0
    assert Held(other).metrics == first.metrics


def test_files_are_uploaded_once_but_those_of_the_sweep_anew(sweep: Path, database: Path) -> None:
    figure, report = sweep / "trials" / "0000" / "figures" / "curves.png", sweep / "report.html"
    figure.parent.mkdir(parents=True)
    summary = replace(SWEEP, artifacts=["report.html"], end_ms=9)
    for content in ("first", "second"):
        figure.write_text(content)
        report.write_text(content)
        views = [
            ended(0, state=content, artifacts=("trials/0000/figures/curves.png",)),
            replace(summary, mark=content),
        ]
        assert send(sweep, sqlite(database), views) == 0
    (kept,) = database.parent.glob("mlartifacts/*/*/artifacts/figures/curves.png")
    (anew,) = database.parent.glob("mlartifacts/*/*/artifacts/report.html")
    assert (kept.read_text(), anew.read_text()) == ("first", "second")


def test_what_mlflow_refuses_is_left_out_alone_and_said_once(sweep: Path, database: Path) -> None:
    bad = [Row(step, START_MS + step, {"a//b": 1.0, "val/top1": 50.0}) for step in (1, 2, 3)]
    said: list[str] = []
    assert send(sweep, sqlite(database), [replace(ended(0), rows=bad), ended(1)], said) == 0
    holds = Held(database)
    holds.check_once(2, 3)
    assert "a//b" not in {name for _, name, *_ in holds.metrics}
    assert len(said) == 1
    assert said[0].startswith("WARNING: MLflow refused data of run 0000, which is left out: a//b=1.0: ")


def test_a_deleted_experiment_is_said_once_and_loses_nothing(sweep: Path, database: Path) -> None:
    client, said = MlflowClient(sqlite(database)), list[str]()
    tracker = Tracker(said.append)
    tracker.begin(begun(0))
    tracker.start(Experiment(sweep, sqlite(database), "sweep", UID, tracker.refuse))
    wait_for(lambda: tracker.pending() == 0)
    client.delete_experiment(identity := experiment_of(client))  # while the sweep runs
    tracker.epoch("0000", row(0, 1))
    wait_for(lambda: said)
    ask(tracker, [ended(0), ended(1)])
    assert tracker.close(1.0) == 2
    views, later = [ended(0), ended(1)], list[str]()
    assert send(sweep, sqlite(database), views, later, complains=True) == 2
    for lines, waits in ((said, "1 run waits"), (later, "2 runs wait")):
        assert len(lines) == 1
        assert lines[0].startswith(f"tracking refused, {waits}: ")
        assert "experiment 'sweep' was deleted; restore it (mlflow experiments restore" in lines[0]
    client.restore_experiment(identity)
    assert send(sweep, sqlite(database), views) == 0
    Held(database).check_once(2, 3)


def wait_for(what: Callable[[], object]) -> None:
    deadline = time.monotonic() + 60
    while not what():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@contextmanager
def answering(status: int) -> Iterator[str]:
    """Give the address of a server that answers everything with one status."""

    class Refusing(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_error(status)

        do_POST = do_GET

        def log_message(self, *words: object) -> None: ...

    with serving(Refusing) as uri:
        yield uri


@contextmanager
def serving(handler: type[BaseHTTPRequestHandler]) -> Iterator[str]:
    """Give the address at which a handler answers."""
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.mark.parametrize(
    ("status", "how", "told"),
    [
        (401, "refused", "401; set MLFLOW_TRACKING_USERNAME"),
        (403, "refused", "403; this user may not do that"),
        (400, "unreachable", "API request to endpoint"),  # a proxy's, such as HTTP that came to an HTTPS port
    ],
)
def test_a_server_that_refuses_is_said_once_with_what_to_do(sweep: Path, status: int, how: str, told: str) -> None:
    said: list[str] = []
    with answering(status) as uri:
        warning = check_server(uri)
        assert send(sweep, uri, [ended(0)], said, complains=True) == 1
    assert warning is not None
    assert warning.startswith(f"tracking {how}, training goes on without it: {uri}: {told}")
    assert len(said) == 1
    assert said[0].startswith(f"tracking {how}, 1 run waits: {uri}: {told}")


def test_a_database_of_another_version_is_said_with_what_to_do(sweep: Path, database: Path) -> None:
    with sqlite3.connect(database) as connection:
        connection.execute("update alembic_version set version_num = 'ffffffffffff'")
    connection.close()
    said: list[str] = []
    assert send(sweep, sqlite(database), [ended(0)], said, complains=True) == 1
    assert len(said) == 1
    assert "another version of MLflow made this database; back it up, then 'mlflow db upgrade" in said[0]


def experiment_of(client: MlflowClient) -> str:
    found = client.get_experiment_by_name("sweep")
    assert found is not None
    return found.experiment_id


def test_another_sweep_of_the_name_has_an_experiment_of_its_own(
    sweep: Path, database: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """That of one that was removed, or of another root."""
    client = MlflowClient(sqlite(database))
    for number in (0, 1):
        assert send(sweep, sqlite(database), [ended(number)]) == 0
        assert send(sweep, sqlite(database), [ended(number)], uid="0123456789") == 0
    found = {item.name: item.experiment_id for item in client.search_experiments() if item.name.startswith("sweep")}
    assert found.keys() == {"sweep", "sweep (012345)"}
    for identity, uid in zip((found["sweep"], found["sweep (012345)"]), (UID, "0123456789"), strict=True):
        runs = client.search_runs([identity])
        assert {run.data.tags["icd.trial"] for run in runs} == {f"{uid}/0000", f"{uid}/0001"}
    assert caplog.text.count("is not this sweep's, whose runs go to 'sweep (012345)'") == 1
    client.delete_experiment(found["sweep"])
    with pytest.raises(SetupError, match="was deleted"):
        Experiment(sweep, sqlite(database), "sweep", UID, lambda *_: None).known_run("0000")


def test_a_run_that_the_user_deleted_stays_deleted(sweep: Path, database: Path) -> None:
    assert send(sweep, sqlite(database), [begun(0, epochs=1)]) == 0
    client = MlflowClient(sqlite(database))
    (run,) = client.search_runs([experiment_of(client)])
    client.delete_run(run.info.run_id)
    said: list[str] = []
    assert send(sweep, sqlite(database), [ended(0), ended(1)], said) == 0
    assert (said, Held(database).active) == ([], ["0001"])


def test_a_second_run_of_a_trial_is_removed(sweep: Path, database: Path) -> None:
    assert send(sweep, sqlite(database), [begun(0)]) == 0
    client = MlflowClient(sqlite(database))
    identity = experiment_of(client)
    client.create_run(identity, tags={"icd.trial": f"{UID}/0000"})
    assert send(sweep, sqlite(database), [ended(0)]) == 0
    Held(database).check_once(1, 3)


class CutOffError(Exception):
    """Stands for a kill between two requests."""


class Cut:
    """A client whose process dies before a request that would change something."""

    def __init__(self, uri: str, requests: int) -> None:
        self._client, self._left = MlflowClient(uri), requests

    def __getattr__(self, name: str) -> Any:
        if not name.startswith(("create", "log", "set")):
            return getattr(self._client, name)
        self._left -= 1
        if self._left < 0:
            raise CutOffError
        return getattr(self._client, name)


def test_a_kill_before_any_request_leaves_no_mark_and_the_next_process_sends_the_rest(
    sweep: Path, database: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def runs() -> Experiment:
        return Experiment(sweep, sqlite(database), "sweep", UID, lambda *refused: pytest.fail(str(refused)))

    assert send(sweep, sqlite(database), [SWEEP]) == 0
    for requests in count():
        view = ended(requests)
        try:
            with monkeypatch.context() as patch:
                patch.setattr(experiment, "connect", lambda uri, requests=requests: Cut(uri, requests))
                runs().reconcile(view)
            break
        except CutOffError:
            later = runs()
            assert not later.sent(view.key, view.mark), requests
            later.reconcile(view)
    assert requests >= 6
    assert all(runs().sent(f"{number:04d}", "complete") for number in range(requests + 1)), "and none is sent again"
    holds = Held(database)
    holds.check_once(requests + 1, 3)
    assert {status for run, status in holds.status.items() if run != "summary"} == {"FINISHED"}
    assert sum(name == "cost/seconds" for _, name, *_ in holds.metrics) == requests + 1


def test_addresses_that_cannot_work(tmp_path: Path) -> None:
    with pytest.raises(SetupError, match=r"must be http\(s\)://HOST:PORT or a database, but got './mlruns'"):
        check_server("./mlruns")
    with pytest.raises(SetupError, match="must be a folder that can be written"):
        check_server(f"sqlite:///{tmp_path}/none/mlflow.db")
    warning = check_server(f"http://me:secret@127.0.0.1:{free_port()}")
    assert warning is not None
    assert warning.startswith("tracking unreachable")
    assert "secret" not in warning
    assert check_server(f"sqlite:///{tmp_path}/mlflow.db") is None


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, template: bytes) -> Iterator[Server]:
    server = Server(tmp_path_factory.mktemp("server"))
    server.database.write_bytes(template)
    server.start()
    yield server
    server.kill()


def test_the_doctor_tries_a_server_and_cleans_up(server: Server) -> None:
    for runs in (1, 2):  # what MLflow keeps of the first time does not stand in the way of the second
        found = check_tracking(server.uri.replace("//", "//me:s3cr3t@"))
        assert (found.level, found.text) == ("pass", server.uri)
        with sqlite3.connect(server.database) as connection:
            kept = connection.execute("select lifecycle_stage from experiments where name = 'icd-doctor'").fetchall()
            lost = connection.execute(
                "select count(*) from runs join experiments using (experiment_id) "
                "where experiments.name = 'icd-doctor' and runs.lifecycle_stage = 'deleted'"
            ).fetchone()
        connection.close()
        assert (kept, lost) == ([("deleted",)], (runs,))


class Proxy(BaseHTTPRequestHandler):
    """Passes requests on to an MLflow server, and answers 400 in plain text to those that hold a word."""

    behind = ""

    def do_POST(self) -> None:
        content = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if b"forbidden" in content:
            self.send_error(400)
            return
        request = urllib.request.Request(self.behind + self.path, content or None, method=self.command)
        request.add_header("Content-Type", "application/json")
        try:
            answer = urllib.request.urlopen(request, timeout=60)
        except urllib.error.HTTPError as error:  # MLflow's own no
            answer = error
        with answer:
            self.send_response(answer.status)
            self.end_headers()
            self.wfile.write(answer.read())

    do_GET = do_POST

    def log_message(self, *words: object) -> None: ...


def test_what_a_proxy_refuses_is_said_once_and_stops_no_other_run(server: Server, sweep: Path) -> None:
    tagged, named = replace(ended(0), tags={"reason": "forbidden"}), replace(ended(1), name="forbidden")
    row_refused = replace(ended(2), rows=[replace(row(2, 1), metrics={"forbidden": 1.0, "val/top1": 5.0})])
    said: list[str] = []
    with serving(type("Behind", (Proxy,), {"behind": server.uri})) as uri:
        assert send(sweep, uri, [tagged, named, row_refused, ended(3)], said, uid="bad") == 1, "one has no run"
    assert [line.partition(": 'API")[0] for line in said] == [
        f"WARNING: MLflow refused data of run {run}, which is left out: {what}"
        for run, what in (("0000", "reason=forbidden"), ("0001", "the run"), ("0002", "forbidden=1.0"))
    ]
    holds = Held(server.database, uid="bad")
    assert holds.status == dict.fromkeys(("0000", "0002", "0003"), "FINISHED")
    assert [step for run, name, step, *_ in holds.metrics if (run, name) == ("0003", "val/top1")] == [1, 2, 3]
    assert [value for run, name, _, value, _ in holds.metrics if (run, name) == ("0002", "val/top1")] == [5.0]
