"""What a driver knows of where its trials run, and of each that is under way."""

from dataclasses import dataclass
from pathlib import Path

from icd.config.sweep import Engine


@dataclass(frozen=True, slots=True, kw_only=True)
class RunContext:
    """Where a sweep runs."""

    folder: Path  # the sweep's folder
    root: Path  # folder of results
    data_root: Path | None = None  # folder of data sets
    gpus_per_trial: float = 0.0  # GPUs a trial holds, for the budget
    threads: int = 1  # of torch in each trial
    engine: Engine = "auto"  # asked for, for their steps


@dataclass(slots=True)
class RunningTrial:
    """A trial under way."""

    attempt: int  # the newest
    epochs: int  # of all its runs, which are counted on from run to run
    epoch: int = 0  # the last that was told
    value: float | None = None  # at that epoch
