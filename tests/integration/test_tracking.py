"""The tracker against real MLflow stores and servers: every run and row exactly once, whatever is killed."""

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from icd.doctor.service_facts import tracking_facts
from icd.errors import SetupError
from icd.search.tracking.mlflow_client import check_server
from icd.search.tracking.mlflow_pages import NOTE_TAG, VIEW_TAG
from icd.search.tracking.outbox import Outbox
from icd.search.tracking.outbox_cursor import OFFSET_NAME, REFUSED_NAME
from icd.search.tracking.outbox_sender import flush
from tests.support.trackers import EPOCHS, kill_trackers
from tests.tracking import PARAMS, Held, Server, begin_trial, end_trial, free_port, say_epoch, say_trial

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


def test_two_kills_of_the_driver_lose_and_double_nothing(sweep: Path, database: Path) -> None:
    kills = 2
    kill_trackers(sweep, sqlite(database), UID, kills)
    outbox = Outbox(sweep)
    for number in range(2 * kills):
        say_trial(outbox, number, epochs=EPOCHS)
    send(sweep, sqlite(database))
    holds = Held(database)
    holds.check_once(2 * kills, EPOCHS)
    assert set(holds.status.values()) == {"FINISHED"}


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
