"""Attempts at trials: what a worker is given, what it says of every epoch, how it ended, and what follows from that.

One trial may take several attempts. An attempt starts from the newest valid checkpoint of the trial's folder, says
every epoch it knows, the newest stored one first, and ends with an ``AttemptResult``.
"""

import errno
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, Protocol

from icd.config.sweep import Engine
from icd.search.core.records import Stage
from icd.storage.bucket import Bucket, Stored, local_root

# How an attempt ended. ``complete``: all epochs. ``stopped``: pruned, or asked to stop, after a durable checkpoint.
# ``diverged``: a loss or metric that is not finite. ``disk``: nothing can be written; the sweep halts, resumable.
# ``preempted``: its process or node had to go, and said so; it goes on elsewhere, as often as that happens.
# The others are faults; ``RETRIES`` in icd/search/controller/retry.py says what follows.
ResultKind = Literal[
    "complete", "stopped", "diverged", "disk", "preempted", "killed", "lost", "memory", "gpu", "hang", "setup", "error"
]

DISK = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO)  # errors that make it ``disk``

BEGUN = "begun"
STOP = "stop"  # file of a sweep: what is asked of its driver

UNCLEAN = ("gpu", "memory", "preempted")  # after these a process is not used again: an error of CUDA stays with it

PREPARE_RETRIES = 2  # times that preparing begins again after its worker died; teachers go on from their checkpoints


@dataclass(frozen=True, slots=True, kw_only=True)
class Location:
    """Where an attempt runs."""

    host: str  # name of the machine
    # the GPUs it was given there, as CUDA_VISIBLE_DEVICES takes them; empty for none, or for the whole machine
    gpu: str = ""
    node: str = ""  # Ray's name of the node; empty without Ray

    @property
    def machine(self) -> "Location":
        """The whole machine, with all its GPUs."""
        return replace(self, gpu="")

    def __str__(self) -> str:
        host = f"host {self.host}" + (f" (node {self.node[:8]})" if self.node else "")
        return f"GPU {self.gpu} of {host}" if self.gpu else host


def is_quarantined(location: Location | None, quarantined: Mapping[Location, str]) -> bool:
    """Whether a location, or its whole machine, gets no more trials."""
    return location is not None and (location in quarantined or location.machine in quarantined)


@dataclass(frozen=True, slots=True, kw_only=True)
class RunContext:
    """What all attempts of a driver's run have in common."""

    folder: Path  # of the sweep
    root: Path  # of results
    data_root: Path | None = None  # folder of data sets
    bucket: str = ""  # URL of the root, where that is a bucket; the folders are then copies on each machine
    stage: Stage = "search"  # what the trials are for; a search is refused the test images
    gpus_per_trial: float = 0.0  # GPUs a trial holds, of whose memory it may use as much
    threads: int = 1  # of torch in each trial; 0 leaves them alone
    engine: Engine = "auto"  # asked for, for the steps
    grace_seconds: float = 25.0  # so long after a SIGTERM an epoch may go on
    # what is kept of each teacher's answers, by ``teacher_name``: ``full``, ``stream`` or ``off``
    teacher_caches: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """One attempt at one trial."""

    number: int  # of the trial, in the study
    attempt: int  # counted from 1; the trial's folder holds the newest, and an older one may not write there
    # the trial's plain documents, digests included, in the order in which they are trained, by the names of their
    # folders below ``folder``: the pairs' names, or empty for the only one. Epochs are counted on from run to run.
    runs: Mapping[str, Mapping[str, Any]]
    context: RunContext
    hang_seconds: float = 600.0  # without a step for this long the worker gives up its process

    @property
    def name(self) -> str:
        """Its own, in logs and among messages."""
        return f"{self.number:04d}-{self.attempt}"

    @property
    def epochs(self) -> int:
        """Of all runs."""
        return sum(int(document["training"]["epochs"]) for document in self.runs.values())

    @property
    def folder(self) -> Path:
        """The folder of the trial; with a bucket the attempt's own copy of it."""
        folder = trial_folder(self.context.folder, self.number)
        return folder / f"a{self.attempt}" if self.context.bucket else folder

    @property
    def prefix(self) -> str:
        """What the names of the trial's objects begin with in a bucket."""
        return trial_folder(Path("sweeps") / self.context.folder.name, self.number).as_posix()

    @property
    def stack(self) -> Path:
        """Where a worker that hangs writes what every thread does; the driver's copy where the root is a bucket."""
        return trial_folder(self.context.folder, self.number) / f"stack-{self.attempt}.txt"

    def to_text(self) -> str:
        """Write it as JSON."""
        return json.dumps(asdict(self), default=str)

    @classmethod
    def from_text(cls, text: str) -> "Attempt":
        """Read what ``to_text`` wrote."""
        data = json.loads(text)
        context = data.pop("context")
        folders = {name: Path(context[name]) for name in ("folder", "root", "data_root") if context[name] is not None}
        return cls(**data, context=RunContext(**{**context, **folders}))

    def here(self) -> "Attempt":
        """Give the same attempt with this machine's folders."""
        if not self.context.bucket:
            return self
        root = local_root(self.context.bucket)
        return replace(
            self, context=replace(self.context, root=root, folder=root / "sweeps" / self.context.folder.name)
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class EpochReport:
    """One reported epoch of a trial; its checkpoint is durable."""

    number: int
    attempt: int
    epoch: int  # as the trial counts
    metrics: Mapping[str, float]  # with ``time``, seconds since 1970
    run: str = ""  # name of the pair that was trained; empty where there is one run
    device: str = ""  # name of the GPU or CPU it was trained on; empty where it is only told again
    location: Location | None = None  # where that is, as the executor knows it


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptResult:
    """How an attempt ended."""

    number: int
    attempt: int
    kind: ResultKind
    reason: str = ""  # one line for people, for all but ``complete``
    device: str = ""  # name of the GPU or CPU it ran on
    result: Mapping[str, Any] = field(default_factory=dict)  # the result.json of the trial's last run, for ``complete``
    # where that is, as the executor knows it; None where the end says nothing of it
    location: Location | None = None
    spent: str = ""  # why its process is given no other attempt, though nothing is wrong with this one

    @property
    def unclean(self) -> bool:
        """Whether its process is used for nothing else."""
        return self.kind in UNCLEAN or bool(self.spent)


def ended(attempt: Attempt, kind: ResultKind, reason: str = "") -> AttemptResult:
    """Give the end of an attempt that cannot tell it itself."""
    return AttemptResult(number=attempt.number, attempt=attempt.attempt, kind=kind, reason=reason)


class Policy(Protocol):
    """The driver as an executor sees it; all calls come from one thread."""

    def next_attempt(self) -> Attempt | None:
        """Give the next attempt to start; None where there is none now."""
        ...

    def on_epoch(self, epoch: EpochReport) -> bool:
        """Take an epoch into the ledger; False stops the trial."""
        ...

    def on_finished(self, result: AttemptResult) -> None:
        """Take the end of an attempt into the ledger."""
        ...

    @property
    def done(self) -> bool:
        """Whether ``next_attempt`` will never give one again and none is under way."""
        ...

    @property
    def stopping(self) -> bool:
        """Whether trials under way should stop after their current epoch."""
        ...

    @property
    def quarantined(self) -> Mapping[Location, str]:
        """Where no attempt is to be started, and why."""
        ...


def trial_folder(sweep: Path, number: int, member: str = "") -> Path:
    """Give the folder of a trial, or of one of its runs."""
    return sweep / "trials" / f"{number:04d}" / member


def stop_asked(sweep: Path) -> str:
    """Read what is asked of a sweep on this machine: ``drain``, ``now``, or nothing."""
    try:
        return (sweep / STOP).read_text().strip()
    except OSError:
        return ""


def checkpoints_below(folder: Path) -> Iterator[Path]:
    """Find the checkpoints of all runs of a trial."""
    for pattern in ("checkpoints", "*/checkpoints"):
        yield from folder.glob(f"{pattern}/epoch-*.ckpt")


def newest_begun(names: Mapping[str, Stored], prefix: str, most: int) -> int:
    """Give the newest attempt up to ``most`` that has taken over, 0 where none has; ``names`` as a listing has them."""
    attempt = re.compile(rf"{re.escape(prefix)}/a(\d+)/{BEGUN}")
    found = [int(match[1]) for match in map(attempt.fullmatch, names) if match]
    return max((number for number in found if number <= most), default=0)


def newest_attempt(attempt: Attempt) -> int:
    """Read which attempt has a trial; where the folder, or the bucket, does not say, it is the one that asks.

    Raises:
        SetupError: If the bucket stays away.
    """
    try:
        if attempt.context.bucket:
            return int(Bucket(attempt.context.bucket).read(f"{attempt.prefix}/attempt") or b"")
        return int((attempt.folder / "attempt").read_bytes())
    except (OSError, ValueError):
        return attempt.attempt
