"""One driver at a time, on this file system and, where others can write the database, there: who holds the right."""

import fcntl
import hashlib
import json
import logging
import os
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import sqlalchemy
from optuna.storages import BaseStorage, RDBStorage
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from icd.errors import SetupError, StateError
from icd.search.study.database import UNUSABLE, is_shared, patiently, refusal
from icd.search.study.database_file import sqlite_file

logger = logging.getLogger(__name__)

_TRIES = 5
_PAUSE_S = 0.05
_TAKE_BACK_S = 20.0  # how long a session of ours that was cut off may still hold it
_LONGEST_NAME = 63  # of a connection, as PostgreSQL keeps it


@contextmanager
def sweep_lock(folder: Path, url: str, announce: Callable[[str], None]) -> "Iterator[PostgresLock | None]":
    """Hold the right to drive a sweep within the block; gives the lock in its database, where that is shared.

    Raises:
        StateError: If another driver, on any machine, holds it; names that driver.
        SetupError: If the folder cannot be written or locked, or the database cannot be reached.
    """
    with ExitStack() as held:
        for place in lock_folders(folder, url):
            with suppress(OSError):  # what cannot be made cannot be locked, which is said next
                place.mkdir(parents=True, exist_ok=True)
            held.enter_context(driver_lock(place))
        if not is_shared(url):
            yield None
            return
        shared = PostgresLock(url, folder.name, announce)
        shared.acquire()
        try:
            yield shared
        finally:
            shared.release()


def lock_folders(folder: Path, url: str) -> list[Path]:
    """Name the folders that a sweep's driver locks: its own, and one beside a database that other roots may use too."""
    path = sqlite_file(url)
    return [folder] + ([path.resolve().with_name(f".{path.name}.locks") / folder.name] if path else [])


@contextmanager
def driver_lock(folder: Path) -> Iterator[None]:
    """Hold the right to drive a sweep on this file system within the block, or until death.

    Raises:
        StateError: If another driver holds it; names that driver.
        SetupError: If the folder cannot be written or locked.
    """
    path = folder / "driver.lock"
    try:
        file = path.open("a+", encoding="utf-8")
    except OSError as error:
        raise SetupError(f"{path} cannot be written: {error.strerror}; choose --root") from error
    with file:
        try:
            _lock_soon(file)
        except BlockingIOError:
            raise StateError(
                f"sweep {folder.name!r} is driven by {holder(folder)}; wait for it, or end it with 'icd stop'"
            ) from None
        except OSError as error:
            raise SetupError(f"{path} cannot be locked: {error.strerror}; choose a --root that can") from error
        mine = {"pid": os.getpid(), "host": socket.gethostname(), "since": time.strftime("%Y-%m-%d %H:%M:%S")}
        try:
            with suppress(OSError):  # on a full disk the lock holds all the same
                os.ftruncate(file.fileno(), 0)
                os.write(file.fileno(), json.dumps(mine).encode())
            yield
        finally:
            with suppress(OSError):
                os.ftruncate(file.fileno(), 0)


def _lock_soon(file: Any) -> None:
    """Take the lock; ``is_driven`` of another process may hold it for a moment."""
    for _ in range(_TRIES):
        with suppress(BlockingIOError):
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        time.sleep(_PAUSE_S)
    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def holder(folder: Path) -> str:
    """Say who drives a sweep: ``pid 812 on host h since ...``."""
    try:
        said = json.loads((folder / "driver.lock").read_text())
        return f"pid {said['pid']} on {said['host']} since {said['since']}"
    except (OSError, ValueError, KeyError, TypeError):
        return "another driver"


def is_driven(folder: Path) -> bool:
    """Whether a live driver holds the sweep."""
    try:
        with (folder / "driver.lock").open() as file:  # shared: two who ask are not taken for a driver
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


class PostgresLock:
    """An advisory lock of PostgreSQL for one study; held by a connection of its own."""

    def __init__(self, url: str, name: str, announce: Callable[[str], None] = logger.warning) -> None:
        self.url, self.name, self.announce = url, name, announce
        self._key = int.from_bytes(hashlib.sha256(f"icd/{name}".encode()).digest()[:8], "big", signed=True)
        self._connection: Any = None
        self._lost: StateError | SetupError | None = None

    def acquire(self) -> None:
        """Take the lock.

        Raises:
            StateError: If a driver anywhere holds it.
            SetupError: If the database cannot be reached.
        """
        try:
            self._take()
        except UNUSABLE as error:
            raise refusal(self.url, error) from error

    def holder(self) -> str | None:
        """Say who has the lock now, without taking it; None for nobody.

        Raises:
            SetupError: If the database cannot be reached.
        """
        try:
            with self._connected() as connection:
                return self._holder(connection)
        except UNUSABLE as error:
            raise refusal(self.url, error) from error

    def guard(self, storage: BaseStorage) -> None:
        """See before every commit that the lock is held: a driver that was cut off must not write again."""
        if isinstance(storage, RDBStorage):
            sqlalchemy.event.listen(storage.engine, "commit", lambda connection: self.check())

    def check(self) -> None:
        """Take the lock again if the database was restarted, which drops it.

        Raises:
            StateError: If another driver took it meanwhile.
            SetupError: If the database stays away.
        """
        if self._lost is not None:
            raise self._lost
        if self._connection is None:
            return
        try:
            self._connection.execute(sqlalchemy.text("select 1"))
        except DBAPIError:
            self.release()
            try:
                patiently(self._take_back, announce=self.announce)
            except (StateError, SetupError) as error:
                self._lost = error  # nothing is written any more, on the way out either
                raise

    def release(self) -> None:
        """Give the lock back."""
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(SQLAlchemyError):
                connection.close()

    def _take(self) -> None:
        self._connection = self._connected()
        name = f"icd pid {os.getpid()} on {socket.gethostname()}"[:_LONGEST_NAME]
        self._connection.execute(sqlalchemy.text("select set_config('application_name', :name, false)"), {"name": name})
        taken = self._connection.execute(sqlalchemy.text("select pg_try_advisory_lock(:key)"), {"key": self._key})
        if not taken.scalar():
            driver = self._holder(self._connection) or "another driver"
            self.release()
            raise StateError(f"sweep {self.name!r} is driven by {driver}; wait for it, or end it with 'icd stop'")

    def _connected(self) -> sqlalchemy.Connection:
        engine = sqlalchemy.create_engine(self.url, poolclass=sqlalchemy.NullPool, isolation_level="AUTOCOMMIT")
        return engine.connect()

    def _holder(self, connection: sqlalchemy.Connection) -> str | None:
        """Say who has the lock, as far as the database shows it to this user; None for nobody."""
        asked = sqlalchemy.text(
            "select a.application_name, to_char(a.backend_start, 'YYYY-MM-DD HH24:MI:SS') from pg_locks l "
            "join pg_stat_activity a on a.pid = l.pid where l.locktype = 'advisory' and l.granted and l.objsubid = 1 "
            "and l.classid = :high and l.objid = :low and l.database = (select oid from pg_database "
            "where datname = current_database())"
        )
        key = self._key % 2**64
        row = connection.execute(asked, {"high": key >> 32, "low": key % 2**32}).first()
        if row is not None and (row[0] or "").startswith("icd "):
            return f"{row[0].removeprefix('icd ')} since {row[1]}"
        return None if row is None else "a driver on another host"

    def _take_back(self) -> None:
        deadline = time.monotonic() + _TAKE_BACK_S
        while True:
            try:
                return self._take()
            except StateError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.5)
