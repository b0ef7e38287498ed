"""Where sweeps are kept and how one is found again; imports no torch, so that reading verbs answer at once."""

import os
import shlex
from pathlib import Path

from optuna.storages import BaseStorage

from icd.errors import SetupError, StateError, UsageError, did_you_mean
from icd.search.core.roots import root_of
from icd.search.study.database import is_shared, open_storage, redacted, storage_url
from icd.search.study.database_file import is_one_database
from icd.search.study.ledger import Ledger
from icd.storage.bucket import bucket_of, url_of

REPORT_NAME = "report.html"


def sweep_folder(root: Path, name: str) -> Path:
    """Give a sweep's folder."""
    return root.absolute() / "sweeps" / name


def pasted(root: Path, *words: str) -> str:
    """Write a command that finds the same root when it is pasted into a shell."""
    if root_of().absolute() == root.absolute():
        return " ".join(["icd", *words])
    return " ".join(["icd", *words, "--root", shlex.quote(url_of(root) or str(root))])


def tracking_uri(root: Path) -> str:
    """Give MLflow's store: MLFLOW_TRACKING_URI, or sqlite below the root."""
    return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{(root / 'mlflow.db').absolute()}"


def refuse_one_database(root: Path) -> None:
    """Refuse a database for both the study and MLflow: each makes its tables, under names that both use.

    Raises:
        SetupError: If both addresses are of one database.
    """
    study, tracking = storage_url(root), tracking_uri(root)
    if is_one_database(study, tracking):
        raise SetupError(
            "ICD_STORAGE_URL and MLFLOW_TRACKING_URI must be two databases, but both are "
            f"{redacted(study)}; leave one of them out, or make another database for MLflow"
        )


def find(root: Path, name: str) -> Ledger:
    """Open a sweep's study.

    Raises:
        StateError: If there is none of that name, or its driver was killed while it made the study.
    """
    storage = opened(root)
    if storage is None:
        raise StateError(f"no sweep {name!r} in {root}: nothing was started there; choose --root")
    names = Ledger.names(storage)
    if name not in names:
        raise StateError(f"no sweep {name!r} in {root}; {did_you_mean(name, names) if names else 'there is none'}")
    ledger = Ledger(storage, name)
    if "digest" not in ledger.attributes:
        raise StateError(f"sweep {name!r} was cut off while it began; start it again with 'icd sweep'")
    return ledger


def opened(root: Path) -> BaseStorage | None:
    """Open a root's database for reading; None where nothing was started there, since no file is made.

    Raises:
        StateError: If an earlier version of icd has made sweeps in it, before anything is touched there.
    """
    url = storage_url(root)
    if not (is_shared(url) or os.environ.get("ICD_STORAGE_URL") or (root / "study.db").exists()):
        return None
    storage = open_storage(url, reading=True)
    Ledger.refuse_earlier(storage)
    return storage


def refuse_elsewhere(root: Path, name: str) -> None:
    """Refuse a root that has nothing of a sweep, though a database that other roots may use too knows the sweep.

    Raises:
        StateError: If its files must be below another root.
    """
    folder, url, bucket = sweep_folder(root, name), os.environ.get("ICD_STORAGE_URL"), bucket_of(root)
    if not url or (bucket is None and folder.exists()) or (bucket is not None and bucket.list(f"sweeps/{name}")):
        return
    storage = open_storage(url, reading=True)
    Ledger.refuse_foreign(storage, name)
    known = name in Ledger.names(storage)
    if known and (bucket is None or any(record.attempts for record in Ledger(storage, name).records())):
        gone = "" if bucket is not None else f"; where they are gone for good, make the folder {folder}"
        raise StateError(
            f"sweep {name!r} is known, but its files are not below {root if bucket is None else bucket.url}: name the "
            f"root that it was begun in with --root or ICD_ROOT{gone}"
        )


def refuse_several_pairs(ledger: Ledger, why: str) -> None:
    """Refuse a sweep over several pairs.

    Raises:
        UsageError: If its trials have several runs.
    """
    if ledger.ranked:
        raise UsageError(f"sweep {ledger.name!r} is over several pairs, and {why} yet; take a sweep of one pair")


def find_all(root: Path) -> list[Ledger]:
    """Open the studies of all sweeps below a root, in the order in which they were begun."""
    storage = opened(root)
    ledgers = [Ledger(storage, name) for name in Ledger.names(storage)] if storage is not None else []
    whole = [ledger for ledger in ledgers if "digest" in ledger.attributes]
    return sorted(whole, key=lambda ledger: str(ledger.attributes.get("created", "")))
