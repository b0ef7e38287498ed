"""Takes a sweep away: its study, its folder or objects, and, where that is asked for, its experiment in MLflow."""

import logging
import shutil
import time
from contextlib import suppress
from pathlib import Path

from icd.errors import SetupError, StateError, did_you_mean
from icd.search.study.database import open_storage, redacted, storage_url
from icd.search.study.ledger import Ledger
from icd.search.study.locks import lock_folders, sweep_lock
from icd.search.study.sweep_files import sweep_files_of
from icd.search.study.sweep_index import opened, pasted, refuse_elsewhere, sweep_folder, tracking_uri
from icd.search.sweep_status import driver_of
from icd.search.tracking.mlflow_client import advice, connect, own_experiment, refuse_address
from icd.search.tracking.mlflow_pages import without_password

logger = logging.getLogger(__name__)


def parts_of(root: Path, name: str, *, mlflow: bool) -> list[str]:
    """Name what ``remove`` would take away.

    Raises:
        StateError: If somebody drives it, it is another program's, its other half is elsewhere, or there is nothing of
            that name.
    """
    driver = driver_of(root, name)
    if driver is not None:
        raise StateError(
            f"sweep {name!r} is driven by {driver}; end it first with '{pasted(root, 'stop', name, '--now')}'"
        )
    folder, url = sweep_folder(root, name), storage_url(root)
    storage = opened(root)
    names = Ledger.names(storage) if storage is not None else []
    files = sweep_files_of(folder)
    if storage is not None and name in names:
        Ledger.refuse_foreign(storage, name)
        refuse_elsewhere(root, name)
    else:
        files.refuse_old_trials()
    bucket = files.bucket
    found = [f"its study in {redacted(url)}"] if name in names else []
    found += [str(folder)] if folder.exists() else []
    found += [f"{bucket.url}/{files.prefix}"] if bucket is not None and bucket.list(files.prefix) else []
    if not found:
        raise StateError(f"no sweep {name!r} in {root}; {did_you_mean(name, names) if names else 'there is none'}")
    return [*found, *(["its experiment in MLflow"] if mlflow and name in names else [])]


def remove(root: Path, name: str, *, mlflow: bool) -> None:
    """Remove a sweep; teachers and their caches stay, since other sweeps use them.

    Its study goes last: what a removal that was cut off has left is found by the next.

    Raises:
        StateError: As ``parts_of``, or if somebody begins to drive it, or MLflow has no experiment of it.
        SetupError: If its files cannot be removed, or MLflow does not answer.
    """
    parts_of(root, name, mlflow=mlflow)
    folder, url = sweep_folder(root, name), storage_url(root)
    folder.mkdir(parents=True, exist_ok=True)
    with sweep_lock(folder, url, logger.warning):  # nobody begins it meanwhile
        storage = open_storage(url)
        if mlflow and name in Ledger.names(storage):
            _drop_experiment(tracking_uri(root), name, str(Ledger(storage, name).attributes.get("uid", "")))
        files = sweep_files_of(folder)
        if files.bucket is not None:
            for object_name in files.bucket.list(files.prefix):
                files.bucket.forget(object_name)
        own, *beside = lock_folders(folder, url)
        _empty(own)
        Ledger.remove(storage, name)
        for place in beside:  # its lock keeps other drivers away until the study is gone
            _empty(place)
    # Only now, since on NFS a lock that is open keeps its folder; so does whoever has begun the sweep again.
    for place in lock_folders(folder, url):
        with suppress(OSError):
            place.rmdir()


def _empty(folder: Path) -> None:
    try:
        for path in folder.iterdir():
            (shutil.rmtree if path.is_dir() and not path.is_symlink() else Path.unlink)(path)
    except OSError as error:
        raise SetupError(f"{error.filename or folder} cannot be removed: {error.strerror}; try again") from error


def _drop_experiment(uri: str, name: str, uid: str) -> None:
    """Delete a sweep's experiment as MLflow does, recoverable until 'mlflow gc'; its name is free for another sweep."""
    refuse_address(uri)
    where = f"MLflow at {without_password(uri)}"
    try:
        found = own_experiment(client := connect(uri), uid)
        if found is not None and found.lifecycle_stage == "active":
            aside = f"{found.name} (removed {time.strftime('%Y-%m-%d %H:%M:%S')})"
            client.rename_experiment(found.experiment_id, aside)
            client.delete_experiment(found.experiment_id)
    except Exception as error:
        raise SetupError(f"{where}: {advice(error)}; try again, or leave --mlflow out") from error
    if found is None:
        raise StateError(f"{where} has no experiment of sweep {name!r}; set MLFLOW_TRACKING_URI, or leave --mlflow out")
