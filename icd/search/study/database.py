"""Opens the study's database: durable settings, and patience with restarts."""

import contextlib
import os
import re
import sqlite3
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import parse_qsl, unquote, urlsplit

import optuna
import sqlalchemy
from optuna.exceptions import StorageInternalError
from optuna.storages import BaseStorage, InMemoryStorage, RDBStorage
from sqlalchemy import exc
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from icd.errors import SetupError
from icd.search.study.database_file import can_be_written, make_whole, sqlite_file
from icd.storage.bucket import bucket_of

optuna.logging.set_verbosity(optuna.logging.WARNING)

T = TypeVar("T")

_PATIENCE_S = 60.0  # how long a database may be away
_BUSY_S = 30.0  # how long another process may hold sqlite
UNUSABLE = (SQLAlchemyError, StorageInternalError, ImportError, sqlite3.Error, OSError, ValueError, RuntimeError)
_REFUSALS = (exc.ProgrammingError, exc.DataError, exc.IntegrityError, exc.NotSupportedError)
_ours: set[str] = set()  # versions of tables that are this Optuna's


class StudyAwayError(SetupError):
    """The database stayed away for as long as anybody waits for it."""


def storage_url(root: Path) -> str:
    """Give the study's database: ``ICD_STORAGE_URL``, or sqlite below the root.

    Raises:
        SetupError: If the root is a bucket, which holds no database, and the variable does not name one.
    """
    bucket = None if os.environ.get("ICD_STORAGE_URL") else bucket_of(root)
    if bucket is not None:
        raise SetupError(
            f"the root {bucket.url} is a bucket, which cannot hold the study: set ICD_STORAGE_URL to a database that "
            "every driver reaches (postgresql://...), or to sqlite:///FILE if the driver stays on this machine"
        )
    return os.environ.get("ICD_STORAGE_URL") or f"sqlite:///{(root / 'study.db').absolute()}"


def is_shared(url: str) -> bool:
    """Whether others than this user's processes can write the database."""
    return not url.startswith("sqlite")


def redacted(url: str) -> str:
    """Write a URL without user, password and options, which may hold a password too."""
    if not is_shared(url):
        return url
    return re.sub(r"(?<=://).*@", "", url.partition("?")[0])


def refusal(url: str, error: Exception) -> SetupError:
    """Say that a database cannot be opened; the password is not shown."""
    reason = (str(error).splitlines() or [type(error).__name__])[0].replace(url, redacted(url))
    with contextlib.suppress(ValueError):
        for secret in filter(None, (urlsplit(url).password, *dict(parse_qsl(urlsplit(url).query)).values())):
            reason = reason.replace(secret, "***").replace(unquote(secret), "***")
    return SetupError(f"study database {redacted(url)} cannot be opened: {reason}")


def open_storage(url: str, *, reading: bool = False) -> BaseStorage:
    """Open the database, made if it is missing.

    Args:
        url: Of the database.
        reading: Whether it may be one that this user cannot write.

    Raises:
        SetupError: If it cannot be opened; the password is not shown.
    """
    options: dict[str, Any] = {"pool_pre_ping": True}
    path = sqlite_file(url)
    readonly = reading and path is not None and path.exists() and not can_be_written(path)
    if readonly and path is not None:
        options["creator"] = partial(_connect_for_reading, path)
    elif not is_shared(url):
        options["connect_args"] = {"timeout": _BUSY_S}
    try:
        if path is not None and not readonly:
            filled = ("version_info", "studies")
            make_whole(path, lambda aside: RDBStorage(f"sqlite:///{aside}").engine.dispose(), filled)
        storage = _checked(url, options)
    except UNUSABLE as error:
        raise refusal(url, error) from error
    if not is_shared(url) and not readonly:
        sqlalchemy.event.listen(storage.engine, "connect", _make_durable)
        storage.engine.dispose()  # connections made before the listener
    return storage


def _connect_for_reading(path: Path) -> sqlite3.Connection:
    """Open a database where nothing can be written: the log beside it is read if it is there, and else not made."""
    how = "mode=ro" if path.with_name(f"{path.name}-wal").exists() else "immutable=1"
    return sqlite3.connect(f"{path.as_uri()}?{how}", uri=True, timeout=_BUSY_S, check_same_thread=False)


def _checked(url: str, options: Mapping[str, Any]) -> RDBStorage:
    """Open a database whose tables are those of this Optuna; which version that is, is read from its scripts once."""
    storage = RDBStorage(url, engine_kwargs=dict(options), skip_compatibility_check=bool(_ours))
    if _ours and storage.get_current_version() not in _ours:
        storage.engine.dispose()
        storage = RDBStorage(url, engine_kwargs=dict(options))
    _ours.add(storage.get_current_version())
    return storage


def memory_storage() -> BaseStorage:
    """Make a database that nobody else sees and that is gone afterwards."""
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
            reason = reason_of(error)
            if "full" in reason or "readonly" in reason:
                raise SetupError(f"study database: {reason}; make room, then 'icd resume'") from error
            cause = error if isinstance(error, DBAPIError) else error.__cause__
            if isinstance(cause, _REFUSALS) and not cause.connection_invalidated:  # as a user who may not write
                raise SetupError(f"study database refuses: {reason}; mend that, then 'icd resume'") from error
            if time.monotonic() - started > patience_s:
                raise StudyAwayError(
                    f"study database is away for {patience_s:.0f} s: {reason}; then 'icd resume'"
                ) from error
            if failed and not said:  # a retry failed too: more than a connection that a restart has cut
                announce(f"study database does not answer ({reason}); trying for {patience_s:.0f} s")
                said = True
            failed = True
            time.sleep(wait_s)
            wait_s = min(2 * wait_s, 2.0)


def reason_of(error: BaseException) -> str:
    """The innermost reason, on one line, without the SQL."""
    cause: BaseException = error
    while cause.__cause__ is not None:
        cause = cause.__cause__
    original = getattr(cause, "orig", None) or cause
    return " ".join(str(original).split())[:160]
