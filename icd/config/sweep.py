"""A sweep's configuration: which trials may be tried, how they are chosen, and what they may cost.

A space is data. It is a trial's own document in which some values are not fixed: ranges and choices stand where a
trial file has numbers and names. Sampling replaces them and gives a trial's document again.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from decimal import Decimal
from typing import Annotated, Any, Literal

from icd.config.engine import Engine
from icd.fields import Count, FieldProblem, NonNegative, NonNegativeInt, Positive, Range, Seed, check_fields

Direction = Literal["maximize", "minimize"]
SamplerName = Literal["auto", "tpe", "random", "grid", "gp", "cmaes", "nsga2"]
PrunerName = Literal["successive_halving", "hyperband", "median", "none"]
RankName = Literal["mean", "worst"]
Share = Annotated[float, Range(at_least=0, at_most=1)]

# What an objective may be, and which way is better unless the file says otherwise.
METRICS: Mapping[str, Direction] = {
    "val/top1": "maximize",
    "val/top5": "maximize",
    "val/loss": "minimize",
    "val/ece": "minimize",
    "train/loss": "minimize",
    "cost/seconds": "minimize",
    "cost/parameters": "minimize",
}
RANK_NAMES: Mapping[str, RankName] = {"mean": "mean", "worst": "worst"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Objective:
    """One number to make large or small.

    Attributes:
        metric: A metric of the last epoch (``val/top1``, ``val/loss``, ...), ``cost/seconds`` (training time of all
            epochs) or ``cost/parameters`` (weights of the student).
        direction: Which way is better.
    """

    metric: str = "val/top1"
    direction: Direction = "maximize"


@dataclass(frozen=True, slots=True, kw_only=True)
class SamplerConfig:
    """How the next configuration is chosen.

    Attributes:
        name: A row of ``SAMPLERS`` (icd/search/samplers.py), or ``grid``.
        startup_trials: Random trials before the sampler follows its model.
    """

    name: SamplerName = "auto"
    startup_trials: NonNegativeInt = 6

    def __post_init__(self) -> None:
        check_fields(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class PrunerConfig:
    """When a trial that looks poor is stopped.

    Attributes:
        name: A row of ``PRUNERS`` (icd/search/samplers.py).
        min_epochs: No trial is stopped before this epoch.
        reduction: One in so many trials passes a rung (successive halving, hyperband).
        startup_trials: Finished trials before the median rule applies.
        control_share: Share of the trials that are never stopped; they tell what pruning costs.
        dead_terms: Stop a trial too whose loss has a searched term that gives no gradient to speak of once the warm-up
            is over (icd/search/terms.py), whatever ``name`` is.
    """

    name: PrunerName = "none"
    min_epochs: Count = 1
    reduction: Annotated[int, Range(at_least=2)] = 3
    startup_trials: NonNegativeInt = 5
    control_share: Share = 0.15
    dead_terms: bool = False

    def __post_init__(self) -> None:
        check_fields(self)

    @property
    def prunes(self) -> bool:
        """Whether any trial can be stopped."""
        return self.compares or self.dead_terms

    @property
    def compares(self) -> bool:
        """Whether trials are compared with each other."""
        return self.name != "none"


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """Where a sweep ends; whichever limit comes first.

    Attributes:
        trials: Trials, enqueued ones included; null for all points of a grid.
        hours: Wall time of the drivers together.
        gpu_hours: GPUs of a trial, or its share of those of its process, times its training time, summed.
        failed_share: The sweep ends with exit code 4 when more than this share of its trials failed.
    """

    trials: Count | None = None
    hours: Positive | None = None
    gpu_hours: Positive | None = None
    failed_share: Share = 0.25

    def __post_init__(self) -> None:
        check_fields(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class Resources:
    """What a trial is given and how often it is tried; no part of a trial's result.

    Attributes:
        cpus_per_trial: Cores, and threads of torch.
        gpus_per_trial: At most 1; a fraction lets trials share a GPU. Null takes 1 where the executor has GPUs, else 0.
        max_concurrent: Trials at a time; null for as many as fit.
        retries: How often a trial starts again after its process was killed, its node was lost or it hung.
        hang_seconds: A trial is taken to hang after this long without a step, or five median epochs if that is longer.
        grace_seconds: So long after a SIGTERM a trial may go on to end its epoch; less than whoever sends it waits.
        device: Part of a device's name, ``*`` and ``?`` allowed; trials run on no others. Null takes any.
        engine: ``eager``, or ``graph`` to record training steps as CUDA graphs where that can be done; ``auto`` is
            ``eager``.
        autoscale: Whether a sweep asks Ray's autoscaler for room for ``max_concurrent`` trials.
    """

    cpus_per_trial: Positive = 1
    gpus_per_trial: NonNegative | None = None
    max_concurrent: Count | None = None
    retries: NonNegativeInt = 3
    hang_seconds: Positive = 600
    grace_seconds: NonNegative = 25
    device: str | None = None
    engine: Engine = "auto"
    autoscale: bool = False

    def __post_init__(self) -> None:
        gpus = self.gpus_per_trial
        several = gpus is not None and gpus > 1
        rule = "gpus_per_trial must be at most 1, as a trial uses one GPU and the others would idle"
        bounded = "autoscale must be false where max_concurrent is null: it is how many trials' room is asked for"
        check_fields(
            self,
            FieldProblem("gpus_per_trial", rule, gpus) if several else None,
            FieldProblem("autoscale", bounded, self.autoscale) if self.autoscale and not self.max_concurrent else None,
        )

    def gpus_of_a_trial(self, there_are_any: bool) -> float:
        """GPUs that a trial is given."""
        return float(there_are_any) if self.gpus_per_trial is None else self.gpus_per_trial


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """A number between two ends, both included; ``integer`` follows from the field's type."""

    low: float
    high: float
    log: bool = False
    step: float | None = None
    integer: bool = False

    @property
    def finite(self) -> bool:
        """Whether it holds finitely many numbers to a grid: steps, or whole numbers."""
        return self.step is not None or self.integer

    def values(self) -> tuple[float, ...]:
        """Every number of a finite interval, ascending; exact where the file's decimals are (0.1 + 2 * 0.1 is 0.3)."""
        if self.integer:
            return tuple(range(int(self.low), int(self.high) + 1, int(self.step or 1)))
        low, high, step = (Decimal(str(number)) for number in (self.low, self.high, self.step))
        return tuple(float(low + index * step) for index in range(int((high - low) / step) + 1))


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """One of several plain values; ``labels`` name them in Optuna and MLflow and never look like numbers."""

    options: tuple[Any, ...]
    labels: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Branches:
    """One of several names, each with its own fields: a base loss, or a method.

    Attributes:
        fields: For each name, its fields: fixed plain values, or ``Interval``, ``Choice``, ``Branches``,
            ``ScaleWeights``.
    """

    fields: Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class ScaleWeights:
    """One raw weight for each sampled scale, normalised afterwards; with ``gram: cells`` scale 1 has none."""

    low: float
    high: float
    log: bool = False

    @property
    def interval(self) -> Interval:
        """The range of one weight."""
        return Interval(low=self.low, high=self.high, log=self.log)


@dataclass(frozen=True, slots=True, kw_only=True)
class Baseline:
    """A configuration that is tried first and named in comparisons: changes to the sweep's fixed part.

    Networks and a seed that are sampled, and that the baseline does not name, are the first options of the space.
    """

    label: str
    changes: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """A request to begin with the best trials of another sweep; ``search/warm_start.py`` finds them.

    Attributes:
        sweep: Name of the other sweep.
        top: How many of its best complete trials.
    """

    sweep: str
    top: Count = 5

    def __post_init__(self) -> None:
        check_fields(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    """A trial of another sweep as it is tried here.

    Attributes:
        label: ``OTHER trial 12``.
        values: What it reached there, one for each objective of that sweep.
        changes: To this sweep's fixed part, as a baseline has them.
        params: The same in terms of this sweep's space; empty where the space cannot express it.
    """

    label: str
    values: tuple[float, ...]
    changes: Mapping[str, Any]
    params: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """A teacher and a student, as a trial's document has them.

    Attributes:
        name: Folder of its run in every trial, and its name in tables.
        teacher: Plain data.
        student: Plain data.
    """

    name: str
    teacher: Any
    student: Any

    @property
    def networks(self) -> dict[str, Any]:
        """What it adds to a trial's document."""
        return {"teacher": self.teacher, "student": self.student}


@dataclass(frozen=True, slots=True, kw_only=True)
class Generalist:
    """A request for one setting that is good for several pairs: every trial is trained on all of them.

    Attributes:
        pairs: In the order in which they are trained.
        rank: ``mean``: trials are ordered by their mean rank over the pairs; ``worst``: by their worst one.
    """

    pairs: tuple[Pair, ...]
    rank: RankName = "mean"


@dataclass(frozen=True, slots=True, kw_only=True)
class SweepConfig:
    """A sweep, read and checked.

    Attributes:
        name: Folder, study and experiment.
        fixed: A trial's plain document (data, teacher, student, method, protocol, seed) without what is sampled.
        space: What is sampled, by the trial document's dotted path: ``method`` (``Branches`` over whole methods) or
            ``method.scales``, ``method.cluster_weight``, ...; ``protocol.lr``, ...; ``student``, ``teacher``, ``seed``;
            and ``pair``, which sets teacher and student.
        enqueue: Baselines, tried first.
        sources: Other sweeps whose best trials are tried next.
        generalist: Pairs that every trial is trained on; None where a trial has one pair, or none.
        objectives: One, or several for a Pareto front.
        seed: Of the sampler; a trial's own seed is part of ``fixed`` or ``space``.
    """

    name: str
    fixed: Mapping[str, Any]
    space: Mapping[str, Any]
    enqueue: tuple[Baseline, ...] = ()
    sources: tuple[Source, ...] = ()
    generalist: Generalist | None = None
    objectives: tuple[Objective, ...] = (Objective(),)
    sampler: SamplerConfig = field(default_factory=SamplerConfig)
    pruner: PrunerConfig = field(default_factory=PrunerConfig)
    budget: Budget = field(default_factory=Budget)
    resources: Resources = field(default_factory=Resources)
    seed: Seed = 0

    def __post_init__(self) -> None:
        check_fields(self)

    def to_data(self) -> dict[str, Any]:
        """Write the sweep as plain data, every default spelt out.

        But for ``sources``, ``generalist`` and ``pruner.dead_terms``: studies that were begun before there were such
        stay what they were.
        """
        data = {item.name: _plain(getattr(self, item.name)) for item in fields(self)}
        for name in ("sources", "generalist"):
            if not data[name]:
                del data[name]
        if not self.pruner.dead_terms:
            del data["pruner"]["dead_terms"]
        return data

    def identity(self) -> dict[str, Any]:
        """Everything a resume must find unchanged: all but budget and resources."""
        return {name: value for name, value in self.to_data().items() if name not in ("budget", "resources")}

    def digest(self) -> str:
        """SHA-256 of the identity."""
        text = json.dumps(self.identity(), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(name): _plain(item) for name, item in value.items()}
    if isinstance(value, tuple | list):
        return [_plain(item) for item in value]
    if hasattr(value, "__dataclass_fields__"):
        return {item.name: _plain(getattr(value, item.name)) for item in fields(value)}
    return value
