"""Study and tracking in a real PostgreSQL that is restarted in the middle, without mercy."""

import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy
from optuna.storages import RDBStorage
from optuna.study import StudyDirection

from icd.errors import SetupError, StateError
from icd.search import studies
from icd.search.storage import DatabaseLease, open_storage
from tests.crash.served import Harness
from tests.tiny import unpruned
from tests.tracking import free_port

pytestmark = [pytest.mark.integration, pytest.mark.slow, pytest.mark.timeout(400)]

TOP1, ACTIVE = "key = 'val/top1'", "lifecycle_stage = 'active'"
EPOCHS, TRIALS = 100, 4
CHANGES = unpruned(EPOCHS, TRIALS)


def binaries() -> Path | None:
    """Where initdb and pg_ctl are: Debian keeps them off the path."""
    found = [path.parent for path in Path("/usr/lib/postgresql").glob("*/bin/initdb")]
    on_path = shutil.which("initdb")
    return max(found, default=Path(on_path).resolve().parent if on_path else None)


class Postgres:
    """A server of our own, as the user postgres where we are root, which it refuses to be."""

    def __init__(self, folder: Path, where: Path) -> None:
        self.folder, self.where, self.port = folder, where, free_port()
        self.user = "postgres" if os.getuid() == 0 else None
        if self.user:
            shutil.chown(folder, self.user, self.user)
        self.command("initdb", "-D", "data", "-U", "icd", "-A", "trust", "--no-sync")
        self.control("start")
        for name in ("study", "tracking"):
            self.command("createdb", "-h", "127.0.0.1", "-p", str(self.port), "-U", "icd", name)

    def command(self, name: str, *words: str) -> None:
        done = subprocess.run(
            [str(self.where / name), *words],
            cwd=self.folder,
            user=self.user,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr

    def control(self, what: str, *words: str) -> None:
        options = f"-p {self.port} -c listen_addresses=127.0.0.1 -c unix_socket_directories="
        log = ("-l", "server.log", "-o", options) if what != "stop" else ()
        with (self.folder / "control.log").open("ab") as out:
            subprocess.run(
                [str(self.where / "pg_ctl"), what, "-D", "data", "-w", *log, *words],
                cwd=self.folder,
                user=self.user,
                stdout=out,
                stderr=out,
                check=True,
            )

    def restart(self) -> None:
        self.control("restart", "-m", "immediate")

    def url(self, name: str) -> str:
        return f"postgresql+psycopg2://icd:verysecret@127.0.0.1:{self.port}/{name}"

    def select(self, name: str, query: str) -> list[tuple[Any, ...]]:
        engine = sqlalchemy.create_engine(self.url(name), poolclass=sqlalchemy.NullPool)
        with engine.connect() as connection:
            return [tuple(row) for row in connection.execute(sqlalchemy.text(query))]


@pytest.fixture(scope="module")
def postgres() -> Iterator[Postgres]:
    where = binaries()
    if where is None:
        pytest.skip("no initdb: apt-get install postgresql")
    pytest.importorskip("psycopg2", reason="pip install '.[postgres]'")
    with tempfile.TemporaryDirectory(prefix="icd-postgres-") as folder:  # pytest's own are closed to other users
        server = Postgres(Path(folder), where)
        yield server
        server.control("stop", "-m", "immediate")


@pytest.fixture
def harness(postgres: Postgres) -> Harness:
    """Drivers whose study and tracking are in PostgreSQL; the teacher was trained with sqlite."""
    return Harness(ICD_STORAGE_URL=postgres.url("study"), MLFLOW_TRACKING_URI=postgres.url("tracking"))


def test_two_restarts_in_mid_sweep_lose_nothing(
    postgres: Postgres, harness: Harness, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ICD_STORAGE_URL", postgres.url("study"))
    root = harness.root(tmp_path / "root")
    elsewhere = harness.root(tmp_path / "elsewhere")
    drive = harness.drive(root, changes=CHANGES)
    for number in (0, 2):
        drive.until_epoch(number, 4)
        postgres.restart()
    drive.until_epoch(2, EPOCHS - 5)  # seconds later it has its lock again
    second = harness.drive(elsewhere, changes=CHANGES)
    assert second.wait() == 5, second.errors
    assert f"STATE: sweep 'crash' is driven by pid {drive.pid} on {socket.gethostname()} since " in drive.errors
    assert drive.wait(240) == 0, drive.errors
    found = studies.find(root, "crash").records()
    assert [record.state for record in found] == ["complete"] * TRIALS
    assert [record.attempts for record in found] == [1] * TRIALS, "no trial noticed"
    assert [list(record.curve) for record in found] == [list(range(1, EPOCHS + 1))] * TRIALS
    rows = postgres.select(
        "tracking", "select run_uuid, step, count(*) from metrics where key = 'val/top1' group by 1, 2"
    )
    assert len(rows) == TRIALS * EPOCHS
    twice = "select run_uuid, key, step from metrics group by 1, 2, 3 having count(*) > 1"
    assert postgres.select("tracking", twice) == []
    states = postgres.select(
        "tracking", "select status, count(*) from runs where lifecycle_stage = 'active' group by 1"
    )
    assert states == [("FINISHED", TRIALS + 1)]
    assert len(list(root.glob("mlartifacts/*/*/artifacts/metrics.jsonl"))) == TRIALS
    warnings = [line for line in drive.said.splitlines() if "does not answer" in line]
    assert len(warnings) <= 2, "one for each restart at most"
    unreachable = [line for line in drive.said.splitlines() if line.startswith("tracking unreachable")]
    assert len(unreachable) <= 2, "one for each restart at most"
    others = [line for line in drive.said.splitlines() if line not in [*warnings, *unreachable]]
    complaints = [line for line in others if "failed" in line or "retry" in line]
    assert complaints == []
    for text in (drive.said, drive.errors):
        assert "Traceback" not in text
        assert "verysecret" not in text


def test_the_lock_is_taken_again_after_a_restart(postgres: Postgres) -> None:
    said: list[str] = []
    first, second = (DatabaseLease(postgres.url("study"), "locked", said.append) for _ in range(2))
    first.acquire()
    with pytest.raises(StateError, match=rf"is driven by pid {os.getpid()} on .* since 2"):
        second.acquire()
    postgres.restart()
    first._checked = 0.0
    first.check()
    with pytest.raises(StateError, match=rf"is driven by pid {os.getpid()} on .* since 2"):
        second.acquire()
    first.release()
    second.acquire()
    second.release()


def test_a_driver_whose_lock_was_taken_meanwhile_ends(postgres: Postgres, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("icd.search.storage._TAKE_BACK_S", 1.0)
    first, second = (DatabaseLease(postgres.url("study"), "taken") for _ in range(2))
    first.acquire()
    postgres.restart()
    second.acquire()
    first._checked = 0.0
    with pytest.raises(StateError, match=rf"is driven by pid {os.getpid()} on .* since 2"):
        first.check()
    second.release()


def test_a_driver_that_lost_its_lock_writes_no_more(postgres: Postgres, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("icd.search.storage._TAKE_BACK_S", 0.5)
    url = postgres.url("study")
    first, second = (DatabaseLease(url, "fenced") for _ in range(2))
    storage = open_storage(url)
    assert isinstance(storage, RDBStorage)
    first.acquire()
    first.guard(storage)
    study = storage.create_new_study([StudyDirection.MAXIMIZE], "fenced")
    cut_off = "select pg_terminate_backend(pid) from pg_stat_activity where application_name like 'icd pid %'"
    with sqlalchemy.create_engine(url, poolclass=sqlalchemy.NullPool).connect() as connection:
        connection.execute(sqlalchemy.text(cut_off))
    second.acquire()
    for _ in range(2):  # on its way out neither
        with pytest.raises(StateError, match="is driven by pid"):
            storage.set_study_user_attr(study, "late", 1)
    assert "late" not in open_storage(url).get_study_user_attrs(study)
    second.release()
    storage.engine.dispose()


def test_a_server_that_is_away_is_said_without_the_password(postgres: Postgres) -> None:
    postgres.control("stop", "-m", "immediate")
    try:
        with pytest.raises(SetupError, match=r"cannot be opened: .*refused") as caught:
            DatabaseLease(postgres.url("study"), "away").acquire()
        assert "verysecret" not in str(caught.value)
    finally:
        postgres.control("start")
