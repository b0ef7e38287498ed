"""Hands a report to MLflow, as a file of the sweep's summary run."""

from collections.abc import Callable
from pathlib import Path

from icd.search.session import send_missing
from icd.search.study.locks import DriverLock
from icd.search.study.sweep_files import sweep_files_of
from icd.search.study.sweep_index import sweep_folder


def log_report(root: Path, name: str, deadline_s: float, announce: Callable[[str], None]) -> int:
    """Upload ``report.html`` of a sweep's folder; returns how many runs MLflow has not taken in time.

    Raises:
        StateError: If a driver runs: it logs a report by itself.
    """
    folder = sweep_folder(root, name)
    with DriverLock(folder):
        sweep_files_of(folder).publish()
        return send_missing(root, name, deadline_s, announce)
