"""Can the driver use its database and its MLflow? Tries what a sweep does there, and takes it away again."""

import contextlib
import os
import secrets
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypedDict

import optuna
import sqlalchemy
from optuna.exceptions import StorageInternalError
from optuna.storages import RDBStorage
from sqlalchemy.exc import SQLAlchemyError

from icd.errors import SetupError
from icd.search.study.database import open_storage, reason_of, redacted
from icd.search.study.database_file import sqlite_file
from icd.search.tracking.mlflow_client import advice, check_server, connect
from icd.search.tracking.mlflow_pages import without_password

SCRATCH = "icd-doctor"
_ROUNDS = 5


class ServiceFacts(TypedDict):
    """A service of the driver.

    ``error`` is empty where all went well; ``filesystem`` is that of a file, such as ``nfs4``; ``milliseconds`` are
    those of one answer.
    """

    where: str
    error: str
    milliseconds: float | None
    filesystem: str


def database_facts(url: str) -> ServiceFacts:
    """Make a study with a trial in the database and delete it; a file that is not there yet is not made."""
    facts = ServiceFacts(where=redacted(url), error="", milliseconds=None, filesystem="")
    path = sqlite_file(url)
    if path is not None:
        facts["filesystem"] = filesystem_of(path)
        if not path.exists():
            facts["error"] = "" if _can_be_made(path) else f"{path.parent} cannot be written"
            return facts
    try:
        storage = open_storage(url)
        _try_study(storage)
        if isinstance(storage, RDBStorage):
            with storage.engine.connect() as connection:
                facts["milliseconds"] = _median_ms(lambda: connection.execute(sqlalchemy.text("select 1")).scalar())
            storage.engine.dispose()
    except SetupError as error:
        facts["error"] = str(error)
    except (SQLAlchemyError, StorageInternalError) as error:
        facts["error"] = reason_of(error)
    return facts


def _try_study(storage: optuna.storages.BaseStorage) -> None:
    name = f"{SCRATCH}-{secrets.token_hex(4)}"
    study = optuna.create_study(storage=storage, study_name=name)
    try:
        study.tell(study.ask(), 0.0)
    finally:
        optuna.delete_study(study_name=name, storage=storage)


def tracking_facts(uri: str) -> ServiceFacts:
    """Make an experiment with a run in MLflow, write to it and delete both.

    MLflow keeps what is deleted until ``mlflow gc``, so one experiment is used again and again.
    """
    facts = ServiceFacts(where=without_password(uri), error="", milliseconds=None, filesystem="")
    path = sqlite_file(uri)
    if path is not None:
        facts["filesystem"] = filesystem_of(path)
        facts["error"] = "" if _can_be_made(path) else f"{path.parent} cannot be written"
        return facts
    try:
        problem = check_server(uri)
    except SetupError as error:
        problem = str(error)
    if problem:
        return ServiceFacts(**{**facts, "error": problem})
    try:
        client = connect(uri)
        facts["milliseconds"] = _median_ms(lambda: client.get_experiment_by_name(SCRATCH))
        found = client.get_experiment_by_name(SCRATCH)
        if found is not None and found.lifecycle_stage != "active":
            client.restore_experiment(found.experiment_id)
        experiment = found.experiment_id if found is not None else client.create_experiment(SCRATCH)
        try:
            run = client.create_run(experiment).info.run_id
            client.log_metric(run, "doctor", 1.0, synchronous=True)
            client.delete_run(run)
        finally:
            client.delete_experiment(experiment)
    except Exception as error:  # MLflow raises its own errors, those of requests and those of databases
        facts["error"] = advice(error)
    return facts


def _median_ms(ask: Callable[[], object]) -> float:
    times = []
    for _ in range(_ROUNDS):
        started = time.perf_counter()
        ask()
        times.append((time.perf_counter() - started) * 1000)
    return statistics.median(times)


def _can_be_made(path: Path) -> bool:
    existing = next(folder for folder in path.parents if folder.exists())
    return existing.is_dir() and os.access(existing, os.W_OK)


def filesystem_of(path: Path) -> str:
    """Name the type of the file system that a file is on, or would be; nothing where the system does not say."""
    best, kind = "", ""
    resolved = str(path.resolve())
    with contextlib.suppress(OSError):
        for line in Path("/proc/mounts").read_text().splitlines():
            _, mount, name, *_ = line.split()
            mount = mount.replace("\\040", " ")
            if len(mount) >= len(best) and f"{resolved}/".startswith(f"{mount.rstrip('/')}/"):
                best, kind = mount, name
    return kind
