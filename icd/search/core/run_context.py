"""What a driver knows of where its trials run, and of each that is under way."""

from dataclasses import dataclass
from pathlib import Path

from icd.config.engine import Engine


@dataclass(frozen=True, slots=True, kw_only=True)
class RunContext:
    """Where a sweep runs.

    Attributes:
        folder: The sweep's folder.
        root: Folder of results.
        data_root: Folder of data sets.
        gpus_per_trial: GPUs a trial holds, for the budget.
        threads: Of torch in each trial.
        engine: Asked for, for their steps.
    """

    folder: Path
    root: Path
    data_root: Path | None = None
    gpus_per_trial: float = 0.0
    threads: int = 1
    engine: Engine = "auto"


@dataclass(slots=True)
class RunningTrial:
    """A trial under way; epochs are counted on from run to run.

    Attributes:
        attempt: The newest.
        epochs: Of all its runs.
        epoch: The last that was told.
        value: At that epoch.
        run: Name of the run under way; empty where the trial has one.
        before: Epochs of the runs before it.
        more: Whether another run follows.
    """

    attempt: int
    epochs: int
    epoch: int = 0
    value: float | None = None
    run: str = ""
    before: int = 0
    more: bool = False
