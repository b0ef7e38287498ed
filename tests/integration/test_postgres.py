"""Study and tracking in a real PostgreSQL that is restarted in the middle, without mercy."""

import os
import time

import pytest
import sqlalchemy
from optuna.storages import RDBStorage
from optuna.study import StudyDirection

from icd.errors import SetupError, StateError
from icd.search.study.database import open_storage
from icd.search.study.locks import PostgresLock
from tests.support.postgres import Postgres


def given_back(lock: PostgresLock) -> None:
    """Wait until nobody holds it: the server may need a moment to see that a connection is gone."""
    deadline = time.monotonic() + 60
    while lock.holder() is not None:
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_the_lock_is_taken_again_after_a_restart(postgres: Postgres) -> None:
    said: list[str] = []
    first, second = (PostgresLock(postgres.url("study"), "locked", said.append) for _ in range(2))
    first.acquire()
    with pytest.raises(StateError, match=rf"is driven by pid {os.getpid()} on .* since 2"):
        second.acquire()
    postgres.restart()
    first.check()
    with pytest.raises(StateError, match=rf"is driven by pid {os.getpid()} on .* since 2"):
        second.acquire()
    first.release()
    given_back(second)
    second.acquire()
    second.release()


def test_whoever_asks_takes_no_lock(postgres: Postgres) -> None:
    asked, said = PostgresLock(postgres.url("study"), "asked"), list[str]()

    def heard(connection: object, cursor: object, statement: str, *_: object) -> None:
        said.append(statement)

    sqlalchemy.event.listen(sqlalchemy.Engine, "before_cursor_execute", heard)
    try:
        assert asked.holder() is None
    finally:
        sqlalchemy.event.remove(sqlalchemy.Engine, "before_cursor_execute", heard)
    assert said
    assert not any("pg_try_advisory_lock" in statement for statement in said)
    held = PostgresLock(postgres.url("study"), "asked")
    held.acquire()
    assert (asked.holder() or "").startswith(f"pid {os.getpid()} on ")
    held.release()


def test_a_driver_whose_lock_was_taken_meanwhile_ends(postgres: Postgres, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("icd.search.study.locks._TAKE_BACK_S", 1.0)
    first, second = (PostgresLock(postgres.url("study"), "taken") for _ in range(2))
    first.acquire()
    postgres.restart()
    second.acquire()
    with pytest.raises(StateError, match=rf"is driven by pid {os.getpid()} on .* since 2"):
        first.check()
    second.release()


def test_a_driver_that_lost_its_lock_writes_no_more(postgres: Postgres, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("icd.search.study.locks._TAKE_BACK_S", 0.5)
    url = postgres.url("study")
    first, second = (PostgresLock(url, "fenced") for _ in range(2))
    storage = open_storage(url)
    assert isinstance(storage, RDBStorage)
    first.acquire()
    first.guard(storage)
    study = storage.create_new_study([StudyDirection.MAXIMIZE], "fenced")
    cut_off = "select pg_terminate_backend(pid) from pg_stat_activity where application_name like 'icd pid %'"
    with sqlalchemy.create_engine(url, poolclass=sqlalchemy.NullPool).connect() as connection:
        connection.execute(sqlalchemy.text(cut_off))
    given_back(second)
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
            PostgresLock(postgres.url("study"), "away").acquire()
        assert "verysecret" not in str(caught.value)
    finally:
        postgres.control("start")
