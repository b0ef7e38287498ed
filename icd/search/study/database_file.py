"""Databases in files: made aside and moved into place whole, so that a kill or a second process finds all or nothing.

Optuna and MLflow make their tables in dozens of steps. A process that is killed between two of them leaves tables that
the next one cannot complete, and two processes that make them at once get in each other's way.
"""

import os
import sqlite3
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path

from filelock import FileLock
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError

from icd.errors import SetupError
from icd.storage.durable import sync

_BUSY_S = 30.0  # how long another process may hold it
_BESIDE = ("-journal", "-wal", "-shm")  # SQLite's own files; they belong to one database and spoil another
_PASSING = ("sqlite_", "_alembic_tmp_")  # names of tables that SQLite keeps, or that a step leaves when it is cut off


def sqlite_file(url: str) -> Path | None:
    """Give the file of a database in SQLite by its address; None where that names no file, or another database."""
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError):
        return None
    name = parsed.database or ":memory:"
    plain = parsed.get_backend_name() == "sqlite" and name != ":memory:" and not name.startswith("file:")
    return Path(name).absolute() if plain else None


def is_one_database(one: str, other: str) -> bool:
    """Whether two addresses are of one database; schemas of a server's database, chosen by options, are several."""
    files = sqlite_file(one), sqlite_file(other)
    if None not in files:
        return files[0].resolve() == files[1].resolve()  # type: ignore[union-attr]
    try:
        urls = make_url(one), make_url(other)
    except (ArgumentError, ValueError):
        return False
    parts = [(url.get_backend_name(), url.host, url.port, url.database, url.query) for url in urls]
    return urls[0].get_backend_name() != "sqlite" and parts[0] == parts[1]


def can_be_written(path: Path) -> bool:
    """Whether a database can be changed: SQLite writes files beside it."""
    return os.access(path, os.W_OK) and os.access(path.parent, os.W_OK)


def make_whole(path: Path, make: Callable[[Path], None], filled: Sequence[str]) -> None:
    """Make a database that is not there, or was left half made; others wait meanwhile.

    Args:
        path: Of the database.
        make: Makes it in another file, and leaves that closed.
        filled: Tables, of this kind of database alone, of which one that is whole has rows in at least one.

    Raises:
        OSError: If it cannot be written, or its folder is not there.
        SetupError: If it has tables of another program; it is left as it is.
    """
    path = path.resolve()
    if is_whole(path, filled):
        return
    if not path.parent.is_dir():
        raise FileNotFoundError(f"there is no folder {path.parent}")
    with FileLock(path.with_name(f".{path.name}.lock")):
        if is_whole(path, filled):  # somebody else has made it
            return
        aside = path.with_name(f".{path.name}.new")
        _remove(aside)
        try:
            make(aside)
            with closing(sqlite3.connect(path)) as found, closing(sqlite3.connect(aside)) as made:
                others = sorted(_tables(found) - _tables(made))
            if others:
                rule = "is a database of another program, and is left as it is; ICD_STORAGE_URL and MLFLOW_TRACKING_URI"
                raise SetupError(f"{path}, with a table {others[0]!r}, {rule} must each name a file of its own")
            _remove(path)
            aside.replace(path)
            sync(path.parent)
        finally:
            _remove(aside)


def is_whole(path: Path, filled: Sequence[str]) -> bool:
    """Whether a database was made to its end; what is no database at all is left to those who open it."""
    if not path.exists() or not path.stat().st_size:
        return False
    try:  # for writing, as a step that was cut off may have to be undone before anything can be read
        with closing(sqlite3.connect(f"{path.as_uri()}?mode=rw", uri=True, timeout=_BUSY_S)) as database:
            named = _tables(database).intersection(filled)
            return any(database.execute(f"select 1 from {table} limit 1").fetchone() for table in named)
    except sqlite3.Error:
        return True


def _tables(database: sqlite3.Connection) -> set[str]:
    names = [name for (name,) in database.execute("select name from sqlite_master where type = 'table'")]
    return {name for name in names if not name.startswith(_PASSING)}


def _remove(path: Path) -> None:
    """Remove a database, itself first: its journal without it is rubbish, it without its journal is damaged."""
    for name in (path.name, *(f"{path.name}{end}" for end in _BESIDE)):
        path.with_name(name).unlink(missing_ok=True)
