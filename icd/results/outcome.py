"""What the runs of a plan show: its arms, and the one record of a difference that every verb gives and shows."""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

from icd.results.stats import Estimate, OverPairs, Values, compare, over_pairs
from icd.search.core.ranks import mean_rank, worst_rank
from icd.search.core.records import TrialRecord

if TYPE_CHECKING:
    from icd.results.plan import Plan, PlannedArm

ArmKind = Literal["finalist", "baseline"]
# ``open``: runs are left, and nothing is judged before they ended.
Verdict = Literal["better", "worse", "no difference shown", "open"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One retraining.

    Attributes:
        trial: Its number in the study.
        seed: Shared with the runs of all other arms.
        value: Top-1 (%) after the last epoch; of several teacher-student pairs the mean.
        evaluations: How often the images were evaluated that it is measured on.
        seconds: Of training; two runs that differ in nothing else are equal.
    """

    trial: int
    seed: int
    value: float
    evaluations: int
    seconds: float = field(compare=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Arm:
    """One configuration on all its seeds.

    Attributes:
        label: ``trial 12``, the paper's name (``iCD-KD``), or what was changed (``without scale 1``).
        kind: Finalist or baseline.
        trial: The search trial it was found as.
        search_value: What the search measured for it on validation images, where it did.
        parts: How many parts it has, where that was counted.
        config: Its trial document, without a seed of its own; empty where it was trained on several pairs.
        pairs: Its trial document on each teacher-student pair; empty where it was trained on one.
        runs: By seed, complete ones only.
        failures: Seed and reason of runs that diverged or failed.
        mean: Of the runs' values; None without runs.
        sd: Sample standard deviation; None below two runs.
        on_pairs: Mean on each of several pairs.
        mean_rank: Of several pairs: its place among all arms by their means on each pair, over the seeds that all have,
            averaged over the pairs; 1 is best. None with one pair, or without such a seed.
        worst_rank: Its worst place; None likewise.
    """

    label: str
    kind: ArmKind
    trial: int | None = None
    search_value: float | None = None
    parts: int | None = None
    config: Mapping[str, Any] = field(default_factory=dict)
    pairs: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    runs: tuple[Run, ...] = ()
    failures: Mapping[int, str] = field(default_factory=dict)
    mean: float | None = None
    sd: float | None = None
    on_pairs: Mapping[str, float] = field(default_factory=dict)
    mean_rank: float | None = None
    worst_rank: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """One configuration against another: differences are the first minus the second, in points.

    Attributes:
        arm: Label of the first.
        against: Label of the second.
        column: Teacher-student pair of a benchmark; empty where there is one.
        seeds: How many the one with fewer has.
        difference: Estimate; None without runs of both.
        se: Its standard error; None where it is not judged.
        low: Lower end of its interval; None likewise. All intervals of a verb hold the truth together.
        high: Upper end; None likewise.
        p: Adjusted for all comparisons of the verb; None likewise.
        verdict: ``better`` and ``worse`` where the interval leaves out 0, which is where ``p`` is alpha or less.
        detectable: The true difference that would have been shown in four of five cases; None likewise.
        search_gain: What the search said of the difference, one seed on validation images; None where it did not.
        on_pairs: The difference on each of several teacher-student pairs, judged by nothing.
        over_pairs: How alike it is over them; None with one.
    """

    arm: str
    against: str
    column: str = ""
    seeds: int
    difference: float | None
    se: float | None = None
    low: float | None = None
    high: float | None = None
    p: float | None = None
    verdict: Verdict = "open"
    detectable: float | None = None
    search_gain: float | None = None
    on_pairs: Mapping[str, float] = field(default_factory=dict)
    over_pairs: OverPairs | None = None

    @property
    def shown(self) -> bool:
        """Whether it is a shown difference."""
        return self.verdict in ("better", "worse")

    @property
    def interval(self) -> str:
        """Its interval in words; empty where there is none."""
        return "" if self.low is None or self.high is None else f"{self.low:+.2f} to {self.high:+.2f}"


def comparisons_of(
    plan: "Plan", records: Sequence[TrialRecord], *, finished: bool, said: Mapping[str, float] | None = None
) -> tuple[Comparison, ...]:
    """Compare every finalist of a plan with every baseline; one family, judged once nothing is left to run.

    Args:
        plan: The plan.
        records: Of its stage.
        finished: Whether nothing is left to run.
        said: What the search measured for its arms.
    """
    values, said = plan.values(records), said or {}
    estimates = compare(values, plan.contrasts, alpha=plan.alpha) if finished else [None] * len(plan.pairs)
    found = []
    for (one, other), estimate in zip(plan.pairs, estimates, strict=True):
        each = {
            name: difference
            for name in plan.members
            if (difference := mean_difference(values[one, name], values[other, name])) is not None
        }
        item = Comparison(
            arm=one,
            against=other,
            seeds=min(len(values[label, name]) for label in (one, other) for name in plan.members),
            difference=statistics.fmean(each.values()) if len(each) == len(plan.members) else None,
            search_gain=said[one] - said[other] if {one, other} <= said.keys() else None,
            on_pairs=each if len(plan.members) > 1 else {},
            over_pairs=over_pairs(
                {name: tuple([*values[label, name].values()] for label in (one, other)) for name in plan.members}  # type: ignore[misc]
            ),
        )
        found.append(judged(item, estimate, plan.alpha) if finished else item)
    return tuple(found)


def judged(item: Comparison, estimate: Estimate | None, alpha: float) -> Comparison:
    """Say what an estimate shows, once nothing is left to run."""
    if estimate is None:
        return replace(item, verdict="no difference shown")
    verdict: Verdict = "no difference shown"
    if estimate.p <= alpha:
        verdict = "better" if estimate.difference > 0 else "worse"
    return replace(
        item,
        difference=estimate.difference,
        se=estimate.se,
        low=estimate.low,
        high=estimate.high,
        p=estimate.p,
        detectable=estimate.detectable,
        verdict=verdict,
    )


def mean_difference(one: Mapping[Any, float], other: Mapping[Any, float]) -> float | None:
    """Give the mean difference over what both have; None without such."""
    shared = [one[block] - other[block] for block in one if block in other]
    return statistics.fmean(shared) if shared else None


def arms_of(plan: "Plan", records: Sequence[TrialRecord], said: Mapping[str, float] | None = None) -> tuple[Arm, ...]:
    """Say what each arm of a plan reached."""
    values, own = plan.values(records), records_of_plan(plan, records)
    ranks = ranks_of_arms(plan, values)
    return tuple(_arm(plan, arm, own, values, (said or {}).get(arm.label), ranks.get(arm.label)) for arm in plan.arms)


def records_of_plan(plan: "Plan", records: Sequence[TrialRecord]) -> list[TrialRecord]:
    """Choose the trials that belong to a plan."""
    return [record for record in records if record.attributes.get("round") == plan.round]


def evaluations_of(record: TrialRecord) -> int:
    """Count a run's evaluations; one that diverged before its first has chance level at epoch 0, which is none."""
    return sum(epoch > 0 for epoch in record.curve)


def ranks_of_arms(plan: "Plan", values: Values) -> dict[str, tuple[float, float]]:
    """Give each arm's mean and worst rank over several pairs, by its means over the seeds that all have.

    An arm without any run is not ranked, and holds the others up no longer; nothing is where no seed is shared.
    """
    if len(plan.members) < 2:
        return {}
    own = {cell: {block[1]: value for block, value in runs.items()} for cell, runs in values.items() if runs}
    shared = set.intersection(*map(set, own.values())) if own else set()
    if not shared:
        return {}
    means = {
        name: {
            label: statistics.fmean(runs[seed] for seed in shared) for (label, on), runs in own.items() if on == name
        }
        for name in plan.members
    }
    mean, worst = mean_rank(means), worst_rank(means)
    return {label: (mean[label], worst[label]) for label in mean}


def _arm(
    plan: "Plan",
    arm: "PlannedArm",
    records: Sequence[TrialRecord],
    values: Values,
    said: float | None,
    ranks: tuple[float, float] | None,
) -> Arm:
    own = [record for record in records if record.attributes["arm"] == arm.label]
    runs = tuple(_run(record) for record in own if record.state == "complete")
    reached = [run.value for run in runs]
    on_pairs = {name: values[arm.label, name] for name in plan.members if values[arm.label, name]}
    return Arm(
        label=arm.label,
        kind=arm.kind,
        trial=arm.trial,
        search_value=said if arm.search_value is None else arm.search_value,
        parts=arm.parts,
        config=arm.config,
        pairs=arm.pairs,
        runs=runs,
        failures={int(r.attributes["seed"]): r.reason for r in own if r.state in ("pruned", "failed")},
        mean=statistics.fmean(reached) if reached else None,
        sd=statistics.stdev(reached) if len(reached) > 1 else None,
        on_pairs={name: statistics.fmean(on.values()) for name, on in on_pairs.items() if name},
        mean_rank=ranks[0] if ranks else None,
        worst_rank=ranks[1] if ranks else None,
    )


def _run(record: TrialRecord) -> Run:
    return Run(
        trial=record.number,
        seed=int(record.attributes["seed"]),
        value=record.values[0],
        evaluations=evaluations_of(record),
        seconds=float(record.attributes.get("seconds", 0.0)),
    )
