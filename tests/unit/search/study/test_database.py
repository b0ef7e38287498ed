"""The study's database: durable settings, patience, and messages that hide passwords."""

import sqlite3
import subprocess
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace

import pytest
import sqlalchemy
from optuna.exceptions import StorageInternalError
from optuna.storages import RDBStorage
from sqlalchemy.exc import ProgrammingError

from icd.errors import SetupError
from icd.search.study import database as storage
from icd.search.study.database import is_shared, open_storage, patiently, redacted, storage_url
from icd.search.study.locks import PostgresLock
from icd.search.tracking.mlflow_file import ready
from tests.driving import empty_database

SECRETS = [
    "postgresql+psycopg2://anna:hunter2@127.0.0.1:1/icd",
    "postgresql+psycopg2://127.0.0.1:1/icd?user=anna&password=hunter2",
    "postgresql+psycopg2://anna:hunter2@127.0.0.1:notaport/icd",
    "postgresql+psycopg2://anna:hunter2@[bad/icd",
    "postgresql+nodriver://anna:hunter2@127.0.0.1/icd",
    "nosuchdatabase://anna:hunter2@127.0.0.1/icd",
    "://anna:hunter2@",
]


@pytest.fixture
def database(tmp_path: Path) -> Path:
    (tmp_path / "study.db").write_bytes(empty_database())
    return tmp_path / "study.db"


def engine_of(opened: object) -> sqlalchemy.Engine:
    assert isinstance(opened, RDBStorage)
    return opened.engine


def test_where_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ICD_STORAGE_URL", raising=False)
    assert storage_url(tmp_path) == f"sqlite:///{tmp_path}/study.db"
    assert not is_shared(storage_url(tmp_path))
    monkeypatch.setenv("ICD_STORAGE_URL", "postgresql+psycopg2://h/d")
    assert storage_url(tmp_path) == "postgresql+psycopg2://h/d"
    assert is_shared(storage_url(tmp_path))


def test_every_connection_is_durable(database: Path) -> None:
    engine = engine_of(open_storage(f"sqlite:///{database}"))
    for _ in range(2):
        with engine.connect() as one, engine.connect() as two:
            for connection in (one, two):
                assert connection.execute(sqlalchemy.text("pragma journal_mode")).scalar() == "wal"
                assert connection.execute(sqlalchemy.text("pragma synchronous")).scalar() == 2
        engine.dispose()


@pytest.mark.parametrize("url", SECRETS)
def test_no_message_shows_a_password(url: str) -> None:
    assert "hunter2" not in redacted(url)
    with pytest.raises(SetupError) as caught:
        open_storage(url)
    assert "hunter2" not in str(caught.value)
    assert "cannot be opened: " in str(caught.value)
    with pytest.raises(SetupError) as caught:
        PostgresLock(url, "sweep").acquire()
    assert "hunter2" not in str(caught.value)


def test_a_database_in_a_folder_that_is_none(tmp_path: Path) -> None:
    with pytest.raises(SetupError, match="cannot be opened"):
        open_storage(f"sqlite:///{tmp_path}/none/study.db")


def test_a_file_that_is_no_database(tmp_path: Path) -> None:
    (tmp_path / "study.db").write_text("no database at all, but long enough to be looked at" * 100)
    with pytest.raises(SetupError, match="file is not a database"):
        open_storage(f"sqlite:///{tmp_path}/study.db")


@pytest.mark.parametrize("first", [True, False])
def test_tables_of_another_optuna(database: Path, monkeypatch: pytest.MonkeyPatch, first: bool) -> None:
    monkeypatch.setattr(storage, "_ours", set())
    if not first:  # which version is ours is known then
        assert open_storage(f"sqlite:///{database}").get_all_studies() == []
    with sqlite3.connect(database) as connection:
        assert connection.execute("update alembic_version set version_num = 'v2.6.0.a'").rowcount == 1
    with pytest.raises(SetupError, match=r"cannot be opened: .*optuna storage upgrade"):
        open_storage(f"sqlite:///{database}")


@pytest.fixture
def locked(database: Path) -> Iterator[sqlite3.Connection]:
    connection = sqlite3.connect(database, isolation_level=None)
    connection.execute("pragma journal_mode=wal")
    connection.execute("begin exclusive")
    yield connection
    connection.close()


def test_a_lock_that_goes_away_is_waited_for(
    database: Path, locked: sqlite3.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(storage, "_BUSY_S", 0.1)
    opened, said = open_storage(f"sqlite:///{database}"), list[str]()

    def announce(line: str) -> None:
        said.append(line)
        locked.rollback()

    study = patiently(lambda: opened.create_new_study([1], "x"), announce=announce)  # type: ignore[list-item]
    assert study == 1
    assert said == ["study database does not answer (database is locked); trying for 60 s"]


def test_a_lock_that_stays_ends_with_exit_code_3(
    database: Path, locked: sqlite3.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(storage, "_BUSY_S", 0.1)
    opened, said, slept = open_storage(f"sqlite:///{database}"), list[str](), [0.0]
    clock = SimpleNamespace(monotonic=lambda: sum(slept), sleep=slept.append)  # only pauses take time
    monkeypatch.setattr(storage, "time", clock)
    with pytest.raises(SetupError, match="away for 1 s: database is locked; then 'icd resume'") as caught:
        patiently(lambda: opened.create_new_study([1], "x"), announce=said.append, patience_s=1.0)  # type: ignore[list-item]
    assert caught.value.exit_code == 3
    assert len(said) == 1


def test_a_full_disk_is_said_at_once(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    words = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(disk)]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"a small disk cannot be mounted here: {done.stderr.strip()}")
    try:
        (disk / "study.db").write_bytes(empty_database())
        opened, said = open_storage(f"sqlite:///{disk}/study.db"), list[str]()

        def fill() -> None:
            for number in range(10_000):
                opened.create_new_study([1], f"{number}-{'x' * 400}")  # type: ignore[list-item]

        with pytest.raises(SetupError, match="disk is full; make room, then 'icd resume'") as caught:
            patiently(fill, announce=said.append)
        assert caught.value.exit_code == 3
        assert said == []
        engine_of(opened).dispose()
        with sqlite3.connect(disk / "study.db") as reader:
            assert reader.execute("pragma integrity_check").fetchone() == ("ok",)
        reader.close()
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)


def test_a_database_of_another_program_is_left_as_it_is(database: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.db"
    with closing(sqlite3.connect(other)) as connection, connection:
        connection.executescript(
            "create table alembic_version (version_num); insert into alembic_version values ('1');"
            "create table customers (name); insert into customers values ('Anna')"
        )
    with closing(sqlite3.connect(database)) as connection, connection:
        connection.execute("delete from version_info")  # no sweep is in it yet, and Optuna's tables are all there
    before = {path: path.read_bytes() for path in (other, database)}
    with pytest.raises(SetupError, match=f"{other}, with a table 'customers', is a database of another program"):
        open_storage(f"sqlite:///{other}", reading=True)
    for path in before:
        with pytest.raises(SetupError, match=f"{path}, with a table .*, is a database of another program"):
            ready(f"sqlite:///{path}")  # as MLflow's
    assert {path: path.read_bytes() for path in before} == before
    assert open_storage(f"sqlite:///{database}").get_all_studies() == [], "what was left half made is made anew"


@pytest.mark.parametrize("wrapped", [False, True])
def test_a_refusal_is_not_waited_for(wrapped: bool) -> None:
    refused = ProgrammingError("insert", {}, Exception("permission denied for table trials"))

    def act() -> None:
        if not wrapped:
            raise refused
        raise StorageInternalError("An exception is raised during the commit.") from refused

    said: list[str] = []
    with pytest.raises(SetupError, match="refuses: permission denied for table trials; mend that, then 'icd resume'"):
        patiently(act, announce=said.append)
    assert said == []
