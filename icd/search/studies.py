"""Where sweeps are kept and how one is found again; imports no torch, so that reading verbs answer at once."""

import os
from pathlib import Path

from icd.errors import StateError, UsageError, did_you_mean
from icd.search.storage import is_shared, open_storage, storage_url
from icd.search.study import Ledger

REPORT_NAME = "report.html"


def sweep_folder(root: Path, name: str) -> Path:
    """Give a sweep's folder."""
    return root.absolute() / "sweeps" / name


def tracking_uri(root: Path) -> str:
    """Give MLflow's store: MLFLOW_TRACKING_URI, or sqlite below the root."""
    return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{(root / 'mlflow.db').absolute()}"


def find(root: Path, name: str) -> Ledger:
    """Open a sweep's study.

    Raises:
        StateError: If there is none of that name, or its driver was killed while it made the study.
    """
    url = storage_url(root)
    if not can_exist(root, url):
        raise StateError(f"no sweep {name!r} in {root}: nothing was started there; choose --root")
    storage = open_storage(url)
    names = Ledger.names(storage)
    if name not in names:
        raise StateError(f"no sweep {name!r} in {root}; {did_you_mean(name, names) if names else 'there is none'}")
    ledger = Ledger(storage, name)
    if "digest" not in ledger.attributes:
        raise StateError(f"sweep {name!r} was cut off while it began; start it again with 'icd sweep'")
    return ledger


def can_exist(root: Path, url: str) -> bool:
    """Whether the database may be there: reading verbs make no file below a root."""
    return is_shared(url) or bool(os.environ.get("ICD_STORAGE_URL")) or (root / "study.db").exists()


def refuse_several_pairs(ledger: Ledger, why: str) -> None:
    """Refuse a sweep over several pairs.

    Raises:
        UsageError: If its trials have several runs.
    """
    if ledger.ranked:
        raise UsageError(f"sweep {ledger.name!r} is over several pairs, and {why} yet; take a sweep of one pair")


def find_all(root: Path) -> list[Ledger]:
    """Open the studies of all sweeps below a root, in the order in which they were begun."""
    url = storage_url(root)
    if not can_exist(root, url):
        return []
    storage = open_storage(url)
    ledgers = [Ledger(storage, name) for name in Ledger.names(storage)]
    whole = [ledger for ledger in ledgers if "digest" in ledger.attributes]
    return sorted(whole, key=lambda ledger: str(ledger.attributes.get("created", "")))
