"""Opens the study's database: durable settings, patience with restarts, a lock that drivers on other hosts see."""

import hashlib
import logging
import os
import re
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import optuna
import sqlalchemy
from optuna.exceptions import StorageInternalError
from optuna.storages import BaseStorage, InMemoryStorage, RDBStorage, get_storage
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from icd.errors import SetupError, StateError

logger = logging.getLogger(__name__)

T = TypeVar("T")

_PATIENCE_S = 60.0  # how long a database may be away
_BUSY_S = 30.0  # how long another process may hold sqlite


def storage_url(root: Path) -> str:
    """Give the study's database: ``ICD_STORAGE_URL``, or sqlite below the root."""
    return os.environ.get("ICD_STORAGE_URL") or f"sqlite:///{(root / 'study.db').absolute()}"


def is_shared(url: str) -> bool:
    """Whether others than this user's processes can write the database."""
    return not url.startswith("sqlite")


def redacted(url: str) -> str:
    """Write a URL without user and password."""
    return re.sub(r"(?<=://)[^/]*@", "", url)


def open_storage(url: str) -> BaseStorage:
    """Open the database, made if it is missing.

    Raises:
        SetupError: If it cannot be opened; the password is not shown.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    options: dict[str, Any] = {"pool_pre_ping": True}
    if not is_shared(url):
        options["connect_args"] = {"timeout": _BUSY_S}
    try:
        storage = RDBStorage(url, engine_kwargs=options)
    except (SQLAlchemyError, StorageInternalError, ImportError, sqlite3.Error) as error:
        reason = str(error).splitlines()[0].replace(url, redacted(url))
        raise SetupError(f"study database {redacted(url)} cannot be opened: {reason}") from error
    if not is_shared(url):
        sqlalchemy.event.listen(storage.engine, "connect", _make_durable)
        storage.engine.dispose()  # connections made before the listener
    return get_storage(storage)


def memory_storage() -> BaseStorage:
    """Make a database that nobody else sees and that is gone afterwards."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return InMemoryStorage()


def _make_durable(connection: Any, record: Any) -> None:
    cursor = connection.cursor()
    cursor.execute("PRAGMA journal_mode=WAL")
    cursor.execute("PRAGMA synchronous=FULL")
    cursor.close()


def patiently(
    act: Callable[[], T],
    *,
    announce: Callable[[str], None],
    again: Callable[[], None] = lambda: None,
    patience_s: float = _PATIENCE_S,
) -> T:
    """Do something idempotent with the database, again and again while it is away; ``again`` comes before a retry.

    Raises:
        SetupError: If it stays away, is full, or cannot be written.
    """
    started, wait_s, said, failed = time.monotonic(), 0.1, False, False
    while True:
        try:
            if failed:
                again()
            return act()
        except (StorageInternalError, DBAPIError) as error:
            reason = _reason(error)
            if "full" in reason or "readonly" in reason:
                raise SetupError(f"study database: {reason}; make room, then 'icd resume'") from error
            if time.monotonic() - started > patience_s:
                raise SetupError(
                    f"study database is away for {patience_s:.0f} s: {reason}; then 'icd resume'"
                ) from error
            if not said:
                announce(f"study database does not answer ({reason}); trying for {patience_s:.0f} s")
                said = True
            failed = True
            time.sleep(wait_s)
            wait_s = min(2 * wait_s, 2.0)


def _reason(error: BaseException) -> str:
    """The innermost reason, on one line, without the SQL."""
    cause: BaseException = error
    while cause.__cause__ is not None:
        cause = cause.__cause__
    original = getattr(cause, "orig", None) or cause
    return " ".join(str(original).split())[:160]


class DatabaseLease:
    """An advisory lock of PostgreSQL for one study; held by a connection of its own."""

    def __init__(self, url: str, name: str) -> None:
        self.name = name
        self._key = int.from_bytes(hashlib.sha256(f"icd/{name}".encode()).digest()[:8], "big", signed=True)
        self._engine = sqlalchemy.create_engine(url, pool_pre_ping=True, isolation_level="AUTOCOMMIT")
        self._connection: Any = None

    def acquire(self) -> None:
        """Take the lock.

        Raises:
            StateError: If a driver anywhere holds it.
        """
        self._connection = self._engine.connect()
        taken = self._connection.execute(sqlalchemy.text("select pg_try_advisory_lock(:key)"), {"key": self._key})
        if not taken.scalar():
            self.release()
            raise StateError(f"sweep {self.name!r} is driven from another host; wait for it, or end it there")

    def check(self) -> None:
        """Take the lock again if the database was restarted, which drops it."""
        try:
            self._connection.execute(sqlalchemy.text("select 1"))
        except (DBAPIError, SQLAlchemyError):
            self.release()
            self.acquire()

    def release(self) -> None:
        """Give the lock back."""
        if self._connection is not None:
            try:
                self._connection.close()
            finally:
                self._connection = None
                self._engine.dispose()
