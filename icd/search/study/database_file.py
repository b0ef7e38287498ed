"""Databases in files: made aside and moved into place whole, so that a kill or a second process finds all or nothing.

Optuna and MLflow make their tables in dozens of steps. A process that is killed between two of them leaves tables that
the next one cannot complete, and two processes that make them at once get in each other's way.
"""

import os
from collections.abc import Callable
from pathlib import Path

from filelock import FileLock
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError

from icd.storage.durable import sync

_BESIDE = ("-journal", "-wal", "-shm")  # SQLite's own files; they belong to one database and spoil another


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


def make_whole(path: Path, make: Callable[[Path], None]) -> None:
    """Make a database that is not there; others wait meanwhile.

    Args:
        path: Of the database.
        make: Makes it in another file, and leaves that closed.

    Raises:
        OSError: If it cannot be written, or its folder is not there.
    """
    path = path.resolve()
    if _is_there(path):
        return
    if not path.parent.is_dir():
        raise FileNotFoundError(f"there is no folder {path.parent}")
    with FileLock(path.with_name(f".{path.name}.lock")):
        if _is_there(path):  # somebody else has made it
            return
        aside = path.with_name(f".{path.name}.new")
        _remove(aside)
        try:
            make(aside)
            _remove(path)
            aside.replace(path)
            sync(path.parent)
        finally:
            _remove(aside)


def _is_there(path: Path) -> bool:
    return path.exists() and path.stat().st_size > 0


def _remove(path: Path) -> None:
    """Remove a database, itself first: its journal without it is rubbish, it without its journal is damaged."""
    for name in (path.name, *(f"{path.name}{end}" for end in _BESIDE)):
        path.with_name(name).unlink(missing_ok=True)
