"""A sweep's configuration: which trials may be tried, how they are chosen, and what they may cost.

It is a trial's own document in which some values are not fixed: ranges and choices stand where a trial has numbers and
names (icd/config/space.py). Sampling replaces them and gives a trial's document again.
"""

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Annotated, Any, Literal, get_args

from icd.config.ranges import plain
from icd.errors import UsageError
from icd.fields import Checked, Count, FieldProblem, NonNegative, NonNegativeInt, Positive, Range, Seed

Direction = Literal["maximize", "minimize"]
SamplerName = Literal["auto", "tpe", "random", "grid", "gp", "cmaes", "nsga2"]
PrunerName = Literal["successive_halving", "hyperband", "median", "none"]
RankName = Literal["mean", "worst"]
Share = Annotated[float, Range(at_least=0, at_most=1)]
# ``eager`` hands the device one operation after the other. ``graph`` records a step once as a CUDA graph and replays
# it, where that can be done. ``auto`` is ``eager`` until a graph has been seen to be right and faster on a real GPU.
Engine = Literal["auto", "eager", "graph"]

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
class SamplerConfig(Checked):
    """How the next configuration is chosen.

    Attributes:
        name: A row of ``SAMPLERS`` (icd/search/suggest/samplers.py), or ``grid``.
        seed: Of its random numbers; the trials have seeds of their own.
        startup_trials: Random trials before the sampler follows its model.
    """

    name: SamplerName = "auto"
    seed: Seed = 0
    startup_trials: NonNegativeInt = 6


@dataclass(frozen=True, slots=True, kw_only=True)
class PrunerConfig(Checked):
    """When a trial that looks poor is stopped.

    Attributes:
        name: A row of ``PRUNERS`` (icd/search/suggest/samplers.py).
        min_epochs: No trial is stopped before this epoch.
        reduction: One in so many trials passes a rung (successive halving, hyperband).
        startup_trials: Finished trials before the median rule applies.
        control_fraction: Share of the trials that are never stopped; they tell what pruning costs.
        dead_terms: Stop a trial too whose loss has a searched term that gives no gradient to speak of once the warm-up
            is over (icd/search/core/dead_terms.py), whatever ``name`` is.
    """

    name: PrunerName = "none"
    min_epochs: Count = 1
    reduction: Annotated[int, Range(at_least=2)] = 3
    startup_trials: NonNegativeInt = 5
    control_fraction: Share = 0.15
    dead_terms: bool = False

    @property
    def prunes(self) -> bool:
        """Whether any trial can be stopped."""
        return self.compares or self.dead_terms

    @property
    def compares(self) -> bool:
        """Whether trials are compared with each other."""
        return self.name != "none"


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget(Checked):
    """Where a sweep ends; whichever limit comes first. What is enqueued is tried in any case.

    Attributes:
        trials: Trials, enqueued ones included; null for all points of a grid.
        hours: Wall time of the drivers together, without what each makes ready first, such as a teacher.
        gpu_hours: GPUs of a trial, or its share of those of its process, times its training time, summed.
        min_gain: No more trials are begun once ten more are expected to improve the first objective by less than this,
            in its own unit (points, of an accuracy); null for no such end. It needs 20 trials first.
        max_failed_fraction: The sweep ends with exit code 4 when more than this share of its trials failed.
    """

    trials: Count | None = None
    hours: Positive | None = None
    gpu_hours: Positive | None = None
    min_gain: Positive | None = None
    max_failed_fraction: Share = 0.25


@dataclass(frozen=True, slots=True, kw_only=True)
class Resources(Checked):
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
        autoscale: Whether ``max_concurrent`` trials wait for a place in Ray, so that its autoscaler starts nodes.
    """

    cpus_per_trial: Positive = 1
    gpus_per_trial: Share | None = None
    max_concurrent: Count | None = None
    retries: NonNegativeInt = 3
    hang_seconds: Positive = 600
    grace_seconds: NonNegative = 25
    device: str | None = None
    engine: Engine = "auto"
    autoscale: bool = False

    def rules(self) -> Iterator[FieldProblem]:
        if self.autoscale and not self.max_concurrent:
            rule = "autoscale must be false where max_concurrent is null: it is how many trials may wait for a place"
            yield FieldProblem("autoscale", rule, self.autoscale)

    def gpus_of_a_trial(self, there_are_any: bool) -> float:
        """GPUs that a trial is given."""
        return float(there_are_any) if self.gpus_per_trial is None else self.gpus_per_trial


def engine_asked(option: Engine | None = None, file: Engine = "auto") -> Engine:
    """Say what was asked for: an option of the command, else ``ICD_ENGINE``, else the sweep's file.

    Raises:
        UsageError: If ``ICD_ENGINE`` names no engine.
    """
    named: Any = option or os.environ.get("ICD_ENGINE") or file
    if named not in get_args(Engine):
        raise UsageError(f"ICD_ENGINE must be auto, eager or graph, but got {named!r}")
    return named  # type: ignore[no-any-return]


@dataclass(frozen=True, slots=True, kw_only=True)
class Baseline:
    """A configuration that is tried first and named in comparisons: changes to the sweep's fixed part.

    Networks and a seed that are searched, and that the baseline does not name, are the first options.
    """

    label: str
    changes: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Source(Checked):
    """A request to begin with the best trials of another sweep; ``search/suggest/warm_start.py`` finds them.

    Attributes:
        top: How many of its best complete trials.
    """

    sweep: str
    top: Count = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """A teacher and a student, as a trial's document has them."""

    name: str  # folder of its run in every trial, and its name in tables
    teacher: Any
    student: Any

    @property
    def networks(self) -> dict[str, Any]:
        """What it adds to a trial's document."""
        return {"teacher": self.teacher, "student": self.student}


@dataclass(frozen=True, slots=True, kw_only=True)
class SweepConfig:
    """A sweep, read and checked.

    Its template is a trial's document (data, teacher, student, method, training, seed) with ranges and choices in it;
    ``pair`` chooses teacher and student together.
    """

    name: str  # of folder, study and experiment
    template: Mapping[str, Any]
    pairs: tuple[Pair, ...] = ()  # that every trial is trained on, one after another
    rank: RankName = "mean"  # of trials over their pairs, by which they are ordered
    enqueue: tuple[Baseline, ...] = ()  # tried first
    sources: tuple[Source, ...] = ()  # other sweeps whose best trials are tried next
    objectives: tuple[Objective, ...] = (Objective(),)  # several for a Pareto front
    sampler: SamplerConfig = field(default_factory=SamplerConfig)
    pruner: PrunerConfig = field(default_factory=PrunerConfig)
    budget: Budget = field(default_factory=Budget)
    resources: Resources = field(default_factory=Resources)

    def to_data(self) -> dict[str, Any]:
        """Write the sweep as the plain data of a file, every default of the search spelt out."""
        objectives = [asdict(objective) for objective in self.objectives]
        sources = [{"from": item.sweep, "top": item.top} for item in self.sources]
        search = {
            "objective": objectives[0] if len(objectives) == 1 else objectives,
            **{part: asdict(getattr(self, part)) for part in ("sampler", "pruner", "budget")},
            "enqueue": [*map(_enqueued, self.enqueue), *sources],
            **({"rank": self.rank} if self.pairs else {}),
        }
        pairs = {"pairs": [asdict(pair) for pair in self.pairs]} if self.pairs else {}
        last = {"search": search, "resources": asdict(self.resources)}
        return {"name": self.name, **pairs, **plain(self.template), **last}

    def digest(self) -> str:
        """SHA-256 of everything a resume must find unchanged: all but budget and resources."""
        data = self.to_data()
        del data["resources"], data["search"]["budget"]
        text = json.dumps(data, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()


def _enqueued(baseline: Baseline) -> Any:
    if baseline.changes == {"method": baseline.label}:
        return baseline.label
    return {"label": baseline.label, **plain(baseline.changes)}
