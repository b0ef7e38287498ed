"""Hands a report to MLflow, as one more revision of the sweep's summary run."""

import time
from collections.abc import Callable
from pathlib import Path

from icd.search.study.locks import DriverLock
from icd.search.study.sweep_files import shelf_of
from icd.search.study.sweep_index import REPORT_NAME, find, sweep_folder, tracking_uri
from icd.search.tracking.outbox import Outbox


def has_runs(root: Path, name: str) -> bool:
    """Whether MLflow was ever told of a sweep."""
    return shelf_of(sweep_folder(root, name)).has_outbox


def log_report(root: Path, name: str, deadline_s: float, announce: Callable[[str], None]) -> int:
    """Upload ``report.html`` of a sweep's folder; returns how many events MLflow has not taken in time.

    Raises:
        StateError: If a driver runs: it logs a report by itself, and only one process may write the outbox.
    """
    from icd.search.tracking import outbox_sender

    folder, uid = sweep_folder(root, name), find(root, name).attributes["uid"]
    shelf = shelf_of(folder)
    with DriverLock(folder):
        shelf.take_over()
        outbox = Outbox(folder)
        revision = int(time.time())
        outbox.summary(revision, time_ms=1000 * revision, metrics={}, tags={}, artifacts=[REPORT_NAME], finished=True)
        outbox.close()
        shelf.publish()
        shelf.send()
        return outbox_sender.flush(folder, tracking_uri(root), name, uid, deadline_s, announce)
