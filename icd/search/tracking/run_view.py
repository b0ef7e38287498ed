"""What one run of MLflow should hold, as plain values: ``experiment`` brings MLflow to it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

SUMMARY = "summary"  # key of the run that stands for the whole sweep


@dataclass(frozen=True, slots=True)
class Row:
    """Metrics of one step. MLflow takes the same row twice without a trace, since its time is fixed.

    Attributes:
        step: Epoch, counted from 1 over all runs of a trial.
        time_ms: When it ended, in milliseconds since 1970.
        metrics: Finite values by name.
    """

    step: int
    time_ms: int
    metrics: Mapping[str, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class RunView:
    """One run.

    Attributes:
        key: Names it in its sweep: a trial's number in four digits, ``summary``, or the path of an arm.
        name: Shown.
        start_ms: When it began, in milliseconds since 1970.
        params: Cannot be changed once MLflow has them.
        tags: Of MLflow's run; later values replace earlier ones.
        rows: One for each epoch, in order.
        totals: Values of the whole run, in names that no epoch uses.
        artifacts: Files to upload, relative to the sweep's folder.
        mark: Tells this state of the run from any other; a run with it is not touched again. Empty while it runs.
        failed: Whether it ended as a failure.
        end_ms: When it ended.
        note: Heads the page of the experiment (Markdown); empty for a run that says nothing of it.
    """

    key: str
    name: str
    start_ms: int
    params: Mapping[str, str] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)
    rows: Sequence[Row] = ()
    totals: Row | None = None
    artifacts: Sequence[str] = ()
    mark: str = ""
    failed: bool = False
    end_ms: int = 0
    note: str = ""


def trial_key(number: int) -> str:
    """Give the key of a trial's run."""
    return f"{number:04d}"
