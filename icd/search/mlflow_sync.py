"""Brings MLflow to a sweep that nobody drives: ``icd sync``, and ``icd report`` with the file that it has written."""

from collections.abc import Callable
from pathlib import Path

from icd.search.run_sweep import stored_sweep
from icd.search.study.sweep_files import fetch_trials, sweep_files_of
from icd.search.study.sweep_index import find, sweep_folder, tracking_uri
from icd.search.suggest.search_space import SearchSpace
from icd.search.suggest.warm_start import stored_starts
from icd.search.tracking.experiment import Experiment
from icd.search.tracking.sweep_views import SweepViews, ask_for_summary, follow
from icd.search.tracking.tracker import Tracker


def send_missing(root: Path, name: str, deadline_s: float, announce: Callable[[str], None]) -> int:
    """Send MLflow what it lacks of a sweep; returns how many runs still wait at the deadline."""
    ledger, folder = find(root, name), sweep_folder(root, name)
    fetch_trials(root, ledger)
    sweep_files_of(folder).fetch_made()
    sweep = stored_sweep(ledger)
    views = SweepViews(sweep, SearchSpace(sweep, stored_starts(ledger)), ledger.attributes, folder)
    tracker = Tracker(announce)
    follow(tracker, views, ledger)
    ask_for_summary(tracker, views, ledger, driven=False)
    tracker.start(Experiment(folder, tracking_uri(root), name, ledger.attributes["uid"], tracker.refuse))
    return tracker.close(deadline_s)


def was_driven(root: Path, name: str) -> bool:
    """Whether a driver ever had a sweep, so that MLflow has heard of it or will."""
    return "stopped_by" in find(root, name).attributes
