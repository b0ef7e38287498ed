"""MLflow's database in a file of the root: made whole, and mended where the root was moved or copied.

MLflow is a view of the study and the trial folders, so a database that a kill left half made is made anew.
"""

import re
import sqlite3
from contextlib import closing
from pathlib import Path
from urllib.parse import unquote, urlsplit

from icd.search.study.database_file import can_be_written, make_whole, sqlite_file

ARTIFACTS = "mlartifacts"  # folder of artifacts, beside the database
# MLflow writes addresses of files whole, with the root in them, into these columns.
_ADDRESSES = (
    ("experiments", "artifact_location"),
    ("runs", "artifact_uri"),
    ("logged_models", "artifact_location"),
    ("model_versions", "source"),
    ("model_versions", "storage_location"),
)
_OURS = re.compile(rf"(?P<folder>file://.*/{ARTIFACTS})/[0-9a-f]+")  # the last part is a sweep's uid


def ready(uri: str) -> None:
    """Make the database that a client will open, if it is a file, and mend it; another one is left alone."""
    path = sqlite_file(uri)
    if path is None or (path.exists() and not can_be_written(path)):
        return
    make_whole(path, lambda aside: _make_tables(aside, path.parent / ARTIFACTS), ("experiments", "registered_models"))
    _mend(path)


def _make_tables(path: Path, artifacts: Path) -> None:
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    uri = f"sqlite:///{path}"
    SqlAlchemyStore(uri, str(artifacts)).engine.dispose()
    SqlAlchemyStore._engine_map.pop(uri, None)


def _mend(path: Path) -> None:
    """Let artifacts lie beside the database again, where they were moved with it."""
    with closing(sqlite3.connect(path, timeout=30)) as database:
        try:
            rows = database.execute("select distinct artifact_location from experiments").fetchall()
        except sqlite3.Error:
            return  # whoever opens it says what is wrong
        matches = [_OURS.fullmatch(location or "") for (location,) in rows]
        old = {match["folder"] for match in matches if match}
        with database:
            for folder in old:
                if not _same_place(folder, path.parent / ARTIFACTS):
                    _move(database, folder, (path.parent / ARTIFACTS).as_uri())


def _same_place(uri: str, folder: Path) -> bool:
    place = Path(unquote(urlsplit(uri).path))
    return place == folder or (place.exists() and folder.exists() and place.samefile(folder))


def _move(database: sqlite3.Connection, old: str, new: str) -> None:
    for table, column in _ADDRESSES:
        database.execute(
            f"update {table} set {column} = ? || substr({column}, ?) where substr({column}, 1, ?) = ?",
            (new, len(old) + 1, len(old) + 1, f"{old}/"),
        )
