"""What a driver knows of where its trials run, and of each that is under way."""

from dataclasses import dataclass
from pathlib import Path

from icd.config.sweep import Engine


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
    """A trial under way.

    Attributes:
        attempt: The newest.
        epochs: Of all its runs, which are counted on from run to run.
        epoch: The last that was told.
        value: At that epoch.
    """

    attempt: int
    epochs: int
    epoch: int = 0
    value: float | None = None
