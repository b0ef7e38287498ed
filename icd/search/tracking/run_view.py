"""What one run of MLflow should hold, as plain values: ``experiment`` brings MLflow to it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

SUMMARY = "summary"  # key of the run that stands for the whole sweep


@dataclass(frozen=True, slots=True)
class Row:
    """Metrics of one step. MLflow takes the same row twice without a trace, since its time is fixed."""

    step: int  # epoch, counted from 1 over all runs of a trial
    time_ms: int  # when it ended, in milliseconds since 1970
    metrics: Mapping[str, float]  # finite values by name


@dataclass(frozen=True, slots=True, kw_only=True)
class RunView:
    """One run."""

    key: str  # names it in its sweep: a trial's number in four digits, ``summary``, or the path of an arm
    name: str  # shown
    start_ms: int  # when it began, in milliseconds since 1970
    params: Mapping[str, str] = field(default_factory=dict)  # cannot be changed once MLflow has them
    tags: Mapping[str, str] = field(default_factory=dict)  # of MLflow's run; later values replace earlier ones
    rows: Sequence[Row] = ()  # one for each epoch, in order
    totals: Row | None = None  # values of the whole run, in names that no epoch uses
    artifacts: Sequence[str] = ()  # files to upload, relative to the sweep's folder
    # tells this state of the run from any other; a run with it is not touched again. Empty while it runs.
    mark: str = ""
    failed: bool = False  # whether it ended as a failure
    end_ms: int = 0  # when it ended
    sorted_by: str = ""  # metric that sorts the saved leaderboard; empty if the run names none
    ascending: bool = False  # whether small values of it come first
    note: str = ""  # heads the page of the experiment (Markdown); empty for a run that says nothing of it


def trial_key(number: int) -> str:
    """Give the key of a trial's run."""
    return f"{number:04d}"
