"""Several pairs in a list of runs: values by pair, ranks of the arms, differences on each pair; imports no torch.

A run of several pairs is one trial. Its value is the mean over the pairs, which is what statistics are fed, and its
epochs are counted on from pair to pair.
"""

import statistics
from collections.abc import Mapping, Sequence

from icd.results.arms import Plan, PlannedArm, records_of
from icd.results.confirmation import ArmOnPair, OnPair, VersusOnPair
from icd.results.statistics import paired
from icd.search.ranks import mean_rank, worst_rank
from icd.search.record import TrialRecord

ByPair = Mapping[str, Mapping[str, Mapping[int, float]]]  # pair, arm, seed


def values_by_pair(plan: Plan, records: Sequence[TrialRecord]) -> ByPair:
    """Give each arm's values by seed on each pair; empty where a plan has one pair."""
    names = list(dict.fromkeys(name for arm in plan.arms for name in arm.pairs))
    complete = [record for record in records_of(plan, records) if record.state == "complete"]
    return {
        name: {
            arm.label: {
                int(record.attributes["seed"]): record.members[name]
                for record in complete
                if record.attributes["arm"] == arm.label
            }
            for arm in plan.arms
        }
        for name in names
    }


def curves_of(arm: PlannedArm, record: TrialRecord) -> dict[str, dict[int, float]]:
    """Give a run's values by epoch on each pair; the only one is named with nothing."""
    found: dict[str, dict[int, float]] = {}
    before = 0
    for name, document in arm.documents.items():
        last = before + int(document["training"]["epochs"]) if name else max(record.curve, default=0)
        # Epoch 0 stands for a run that diverged before its first: chance level, and no look.
        found[name] = {epoch - before: value for epoch, value in record.curve.items() if before < epoch <= last}
        before = last
    return found


def mean_curve(curves: Mapping[str, Mapping[int, float]]) -> dict[int, float]:
    """Give the mean over the pairs at each epoch that all of them have."""
    shared = sorted(set.intersection(*(set(curve) for curve in curves.values())))
    return {epoch: statistics.fmean(curve[epoch] for curve in curves.values()) for epoch in shared}


def ranks_of_arms(values: ByPair) -> dict[str, tuple[float, float]]:
    """Give each arm's mean and worst rank over the pairs, by its means over the seeds that all arms have.

    An arm without any run is not ranked, and holds the others up no longer; nothing is where no seed is shared.
    """
    seeds = [set(own) for arms in values.values() for own in arms.values() if own]
    shared = set.intersection(*seeds) if seeds else set()
    if not shared:
        return {}
    means = {
        name: {label: statistics.fmean(own[seed] for seed in shared) for label, own in arms.items() if own}
        for name, arms in values.items()
    }
    mean, worst = mean_rank(means), worst_rank(means)
    return {label: (mean[label], worst[label]) for label in mean}


def on_pairs(plan: Plan, records: Sequence[TrialRecord]) -> tuple[OnPair, ...]:
    """Say what each pair shows by itself; empty where a plan has one pair."""
    arms, own = {arm.label: arm for arm in plan.arms}, records_of(plan, records)
    curves = [curves_of(arms[record.attributes["arm"]], record) for record in own]
    return tuple(
        OnPair(
            name=name,
            arms=tuple(_arm(label, list(values[label].values())) for label in arms),
            versus=_versus(plan, values),
            looks=sum(len(curve[name]) for curve in curves),
        )
        for name, values in values_by_pair(plan, records).items()
    )


def differences_by_pair(plan: Plan, records: Sequence[TrialRecord], one: str, other: str) -> dict[str, float]:
    """Give the mean difference of two arms on each pair, over the seeds that both have; empty without such."""
    found = {}
    for name, values in values_by_pair(plan, records).items():
        differences = _differences(values, one, other)
        if differences:
            found[name] = statistics.fmean(differences)
    return found


def _differences(values: Mapping[str, Mapping[int, float]], one: str, other: str) -> list[float]:
    return [value - values[other][seed] for seed, value in sorted(values[one].items()) if seed in values[other]]


def _arm(label: str, values: Sequence[float]) -> ArmOnPair:
    return ArmOnPair(
        label=label,
        seeds=len(values),
        mean=statistics.fmean(values) if values else None,
        sd=statistics.stdev(values) if len(values) > 1 else None,
    )


def _versus(plan: Plan, values: Mapping[str, Mapping[int, float]]) -> tuple[VersusOnPair, ...]:
    found = []
    for finalist, baseline in plan.pairs:
        differences = _differences(values, finalist, baseline)
        if not differences:
            continue
        alone = paired(differences, 1 - plan.alpha)
        found.append(
            VersusOnPair(
                finalist=finalist,
                baseline=baseline,
                seeds=len(differences),
                mean=alone.mean,
                low=alone.low,
                high=alone.high,
                p_t=alone.p_t,
            )
        )
    return tuple(found)
