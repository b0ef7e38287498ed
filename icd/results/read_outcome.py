"""Reads what a confirmation or an ablation shows so far from its study; imports no torch."""

import math
import statistics
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any

from icd.config.sweep import RankName
from icd.results.outcome import Arm, Comparison, Outcome, PlannedArm, Run, Verdict
from icd.results.over_pairs import over_pairs
from icd.results.plan import Measured, Plan, over_members, stored_plans
from icd.results.stats import Estimate, compare, expected_maximum, rounding, simplest_within_one_se
from icd.results.words import rendered
from icd.search.core.ranks import ranks_by_arm
from icd.search.core.records import Stage, TrialRecord
from icd.search.study.ledger import Ledger
from icd.search.sweep_status import plain_sweep
from icd.text import plural


def outcome_of(ledger: Ledger, stage: Stage) -> Outcome | None:
    """Say what the last finished confirmation or ablation shows, else the last one so far; None if none was begun."""
    plans, records = stored_plans(ledger, stage), ledger.records(stage)
    finished = [plan for plan in plans if _is_over(plan, records)]
    return shown_by(ledger, (finished or plans)[-1]) if plans else None


def shown_by(ledger: Ledger, plan: Plan) -> Outcome:
    """Say what the runs of a plan show so far, and which rounds came before and after it."""
    everything, plans = ledger.records(plan.stage), stored_plans(ledger, plan.stage)
    last, earlier = plans[-1], dict[int, str]()
    for other in plans[: plan.round - 1]:
        complete = any(record.state == "complete" for record in other.records(everything))
        if other.pairs and complete:  # the one arm of a benchmark is compared with nothing here
            before = _outcome(ledger, other, everything)
            shown = sum(item.shown for item in before.comparisons)
            counted = f"{shown} of {plural(before.judged, 'comparison')} show a difference."
            said = before.headline or (counted if plan.stage == "ablate" else "no finalist has a complete run.")
            earlier[other.round] = said if _is_over(other, everything) else "given up."
    under_way = last.round if last.round > plan.round and not last.finished(everything) else 0
    found = replace(_outcome(ledger, plan, everything), earlier=earlier, under_way=under_way)
    return replace(found, statement=statement_of(found))


def _is_over(plan: Plan, records: Sequence[TrialRecord]) -> bool:
    """Whether a plan is finished, and none of its runs was given up for another round."""
    own = plan.records(records)
    return plan.finished(own) and all(record.attributes.get("exit_reason") != "given up" for record in own)


def _outcome(ledger: Ledger, plan: Plan, everything: Sequence[TrialRecord]) -> Outcome:
    records = plan.records(everything)
    finished, values, said = plan.finished(records), plan.values(records), _said(ledger, plan)
    images = int(ledger.attributes.get("test_images", 0)) if plan.measure_on == "test" else 0
    evaluations = sum(epoch > 0 for run in everything for epoch in run.curve)  # at 0 stands a chance level
    ranks = ranks_of_arms(plan.members, values)
    arms = tuple(
        _arm(
            arm,
            [record for record in records if record.attributes["arm"] == arm.label],
            values,
            plan.members,
            search_value=said.get(arm.label),
            **dict(zip(("mean_rank", "worst_rank"), ranks.get(arm.label, ()), strict=False)),
        )
        for arm in plan.arms
    )
    found = Outcome(
        sweep=ledger.name,
        metric=plan.objective.metric,
        planned_seeds=len(plan.seeds),
        arms=arms,
        comparisons=compared(
            values, plan.pairs, plan.members, alpha=plan.alpha, finished=finished, images=images, said=said
        ),
        test_evaluations=evaluations if plan.measure_on == "test" else 0,
        seconds=sum(float(record.attributes.get("seconds", 0.0)) for record in records),
        finished=finished,
        faults=sum(record.state == "failed" for record in records),
        pairs=tuple(name for name in plan.members if name),
        reused=len(plan.reused),
        **{name: getattr(plan, name) for name in ("stage", "round", "train_on", "alpha", "failed_runs", "raced")},
    )
    if plan.stage == "ablate":
        return _with_simplest(found, plan, values)
    return _with_winner(found, ledger.ranked, values)


def statement_of(found: Outcome) -> str:
    """Say what a confirmation or an ablation shows, whatever it is, and then what to make of it."""
    return " ".join(rendered("statement.txt.j2", found=found).split())


def compared(
    values: Measured,
    pairs: Sequence[tuple[str, str]],
    members: Sequence[str] = ("",),
    *,
    alpha: float,
    finished: bool,
    families: int = 1,
    images: int = 0,
    said: Mapping[str, float] | None = None,
) -> tuple[Comparison, ...]:
    """Compare arms with others; one family of ``families`` that share alpha, judged once nothing is left to run.

    ``pairs`` are labels of arms, ``members`` the teacher-student pairs over which their means are compared, ``images``
    how many were measured, ``said`` what the search measured for them.
    """
    means = over_members(values)
    shared: Any = {"families": families, "floor": rounding(images)}
    estimates = compare(means, pairs, alpha=alpha, **shared) if finished else [None] * len(pairs)
    found, said = [], said or {}
    for (one, other), estimate in zip(pairs, estimates, strict=True):
        both = {name: (values[one, name], values[other, name]) for name in members}
        each = {name: gap for name, own in both.items() if (gap := _difference(*own)) is not None}
        item = Comparison(
            arm=one,
            against=other,
            seeds=min(len(means[one]), len(means[other])),
            difference=_difference(means[one], means[other]),
            search_gain=said[one] - said[other] if {one, other} <= said.keys() else None,
            on_pairs=each if len(members) > 1 else {},
            over_pairs=over_pairs({name: ([*a.values()], [*b.values()]) for name, (a, b) in both.items()}),
        )
        found.append(_judged(item, estimate, alpha) if finished else item)
    return tuple(found)


def _judged(item: Comparison, estimate: Estimate | None, alpha: float) -> Comparison:
    if estimate is None:
        return replace(item, verdict="not judged")
    taken = {name: getattr(estimate, name) for name in ("difference", "se", "low", "high", "p", "detectable")}
    shown: Verdict = "better" if estimate.difference > 0 else "worse"
    return replace(item, verdict=shown if estimate.p <= alpha else "no difference shown", **taken)


def _difference(one: Mapping[Any, float], other: Mapping[Any, float]) -> float | None:
    """Give the mean difference over what both have; None without such."""
    shared = [one[block] - other[block] for block in one if block in other]
    return statistics.fmean(shared) if shared else None


def _said(ledger: Ledger, plan: Plan) -> dict[str, float]:
    """Give what the search measured for each arm, where that is comparable: top-1, in points."""
    if plan.stage != "confirm" or plain_sweep(ledger)["objectives"][0]["metric"] != "val/top1":
        return {}
    enqueued = {record.baseline: record.values[0] for record in ledger.records() if record.baseline and record.values}
    values = {arm.label: enqueued.get(arm.label) if arm.search_value is None else arm.search_value for arm in plan.arms}
    return {label: value for label, value in values.items() if value is not None}


def _arm(arm: PlannedArm, own: Sequence[TrialRecord], values: Measured, members: Sequence[str], **more: Any) -> Arm:
    """Say what an arm reached in its runs."""
    runs = tuple(
        Run(
            trial=record.number,
            seed=int(record.attributes["seed"]),
            value=record.values[0],
            seconds=float(record.attributes.get("seconds", 0.0)),
        )
        for record in own
        if record.state == "complete"
    )
    by_seed, done = over_members(values)[arm.label], {run.seed for run in runs}
    means = {name: statistics.fmean(there.values()) for name in members if (there := values[arm.label, name])}
    return Arm(
        **{**vars(arm), **more},
        runs=runs,
        failures={int(r.attributes["seed"]): r.reason for r in own if r.state in ("pruned", "failed")},
        counted={seed: value for seed, value in by_seed.items() if seed not in done},
        mean=statistics.fmean(by_seed.values()) if by_seed else None,
        sd=statistics.stdev(by_seed.values()) if len(by_seed) > 1 else None,
        on_pairs={name: mean for name, mean in means.items() if name},
    )


def ranks_of_arms(members: Collection[str], values: Measured) -> dict[str, tuple[float, float]]:
    """Give each arm's mean and worst rank over several pairs, by its means over the seeds that all have.

    An arm without any run is not ranked, and holds the others up no longer; nothing is where no seed is shared.
    """
    own = {cell: runs for cell, runs in values.items() if runs}
    shared = set.intersection(*map(set, own.values())) if own else set()
    if len(members) < 2 or not shared:
        return {}
    means = {cell: statistics.fmean(runs[seed] for seed in shared) for cell, runs in own.items()}
    return ranks_by_arm({name: {label: mean for (label, on), mean in means.items() if on == name} for name in members})


def _with_winner(found: Outcome, ranked: RankName | None, values: Measured) -> Outcome:
    """Choose the best mean over the seeds that all have, of the finalists that failed on the fewest seeds.

    One that ended early has fewer seeds than the others, and is compared with them on those. Over several pairs the
    sweep's rank comes before the mean, among the arms that have all those seeds: a baseline that failed on some decides
    nothing. Its optimism takes the error of one mean from that of a difference of two.
    """
    finalists = [arm for arm in found.arms if arm.kind == "finalist" and arm.runs]
    if not finalists:
        return found
    fewest = min(len(arm.failures) for arm in finalists)
    able, means = [arm.label for arm in finalists if len(arm.failures) == fewest], over_members(values)
    shared = set.intersection(*(set(means[label]) for label in able))
    ranks = ranks_of_arms(found.pairs, {cell: own for cell, own in values.items() if shared <= means[cell[0]].keys()})

    def merit(label: str) -> tuple[float, float]:
        rank = ranks.get(label, (0.0, 0.0))[ranked == "worst"]
        return -rank, statistics.fmean(value for seed, value in means[label].items() if seed in shared or not shared)

    winner = max(able, key=merit)
    errors = [item.se for item in found.of(winner) if item.se is not None]
    several = errors and len(finalists) > 1
    optimism = expected_maximum(len(finalists)) * min(errors) / math.sqrt(2) if several else None
    return replace(found, winner=winner, optimism=optimism)


def _with_simplest(found: Outcome, plan: Plan, values: Measured) -> Outcome:
    """Apply the one-standard-error rule to the arms that had their first seeds."""
    found = replace(found, trial=found.whole.trial or 0)
    known = [arm for arm in found.arms if len(arm.runs) >= plan.first and arm.parts is not None]
    if not known:
        return found
    means, parts = over_members(values), {arm.label: arm.parts or 0 for arm in known}
    label, error = simplest_within_one_se({arm: means[arm] for arm in parts}, parts)
    return replace(found, simplest=str(label), simplest_error=error)
