"""Can the driver use its database and its MLflow? Tries what a sweep does there, and takes it away again.

And do teacher caches lie on a disk that is good for them?
"""

import os
import secrets
from collections.abc import Callable
from pathlib import Path

import optuna
import psutil
from optuna.exceptions import StorageInternalError
from sqlalchemy.exc import SQLAlchemyError

from icd.doctor.diagnosis import Finding
from icd.errors import SetupError
from icd.search.study.database import open_storage, reason_of, redacted, storage_url
from icd.search.study.database_file import sqlite_file
from icd.search.study.sweep_index import tracking_uri
from icd.search.tracking.mlflow_client import advice, check_server, connect
from icd.search.tracking.mlflow_pages import without_password
from icd.worker.trial_inputs import TrialFolders

SCRATCH = "icd-doctor"
_SHARED_DISKS = ("nfs", "cifs", "smb", "lustre", "beegfs", "gpfs", "ceph", "gluster", "fuse", "9p", "afs")


def check_services(root: Path) -> list[Finding]:
    """Try the database and the MLflow that this environment names."""
    return [check_database(storage_url(root)), check_tracking(tracking_uri(root))]


def check_database(url: str) -> Finding:
    """Make a study with a trial in the database and delete it; a file that is not there yet is not made."""
    return _tried("database", url, redacted(url), _try_database)


def check_tracking(uri: str) -> Finding:
    """Make an experiment with a run on a server, write to it and delete both; of a file see whether it can be made.

    MLflow keeps what is deleted until ``mlflow gc``, so one experiment is used again and again.
    """
    return _tried("MLflow", uri, without_password(uri), _try_tracking)


def check_cache(root: Path, where: str) -> Finding:
    """See that teacher caches lie on a machine's own disk: a network's may show old pages of a mapped file."""
    folder = TrialFolders(root=root).teacher_cache
    kind = filesystem_of(folder)
    if kind.startswith(_SHARED_DISKS):
        advice = "let ICD_TEACHER_CACHE name a folder on each machine's own disk"
        return Finding("teacher cache", where, "warn", f"{folder}, on {kind}", advice)
    return Finding("teacher cache", where, "pass", str(folder))


def _tried(name: str, uri: str, shown: str, attempt: Callable[[str], str]) -> Finding:
    path = sqlite_file(uri)
    if path is not None and not _can_be_made(path):
        problem = f"{path.parent} cannot be written"
    else:
        problem = attempt(uri) if path is None or path.exists() else ""
    if problem:
        advice = "passwords come from the environment (docs/reference/environment.md); the user must own its tables"
        return Finding(name, "driver", "fail", f"{shown}: {problem}", advice)
    kind = filesystem_of(path) if path is not None else ""
    if kind.startswith(_SHARED_DISKS):
        advice = "SQLite loses writes there; use PostgreSQL or this machine's own disk (ICD_STORAGE_URL)"
        return Finding(name, "driver", "warn", f"{shown}, on {kind}", advice)
    return Finding(name, "driver", "pass", shown)


def _try_database(url: str) -> str:
    study = f"{SCRATCH}-{secrets.token_hex(4)}"
    try:
        storage = open_storage(url)
        made = optuna.create_study(storage=storage, study_name=study)
        try:
            made.tell(made.ask(), 0.0)
        finally:
            optuna.delete_study(study_name=study, storage=storage)
    except SetupError as error:
        return str(error)
    except (SQLAlchemyError, StorageInternalError) as error:
        return reason_of(error)
    return ""


def _try_tracking(uri: str) -> str:
    if sqlite_file(uri) is not None:
        return ""
    try:
        if problem := check_server(uri):
            return problem
        client = connect(uri)
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
        return advice(error)
    return ""


def _can_be_made(path: Path) -> bool:
    existing = next(folder for folder in path.parents if folder.exists())
    return existing.is_dir() and os.access(existing, os.W_OK)


def filesystem_of(path: Path) -> str:
    """Name the type of the file system that a file is on, or would be; nothing where the system does not say."""
    mounts = [part for part in psutil.disk_partitions(all=True) if path.resolve().is_relative_to(part.mountpoint)]
    return str(max(reversed(mounts), key=lambda part: len(part.mountpoint)).fstype) if mounts else ""
