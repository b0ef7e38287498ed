"""Reads what a confirmation shows so far from its study; imports no torch."""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import replace

from icd.config.sweep import RankName
from icd.results.arms import Plan, PlannedArm, failures_of, records_of, stored_plans, values_by_arm
from icd.results.confirmation import Arm, Confirmation, Run, Versus
from icd.results.pairs import curves_of, mean_curve, on_pairs, ranks_of_arms, values_by_pair
from icd.results.statements import statement_of
from icd.results.statistics import paired
from icd.search.reading import plain_sweep
from icd.search.record import TrialRecord
from icd.search.study import Ledger


def confirmation_of(ledger: Ledger, round_: int | None = None) -> Confirmation | None:
    """Say what a confirmation shows so far: the last one of a sweep, or the one that is asked for.

    Returns:
        None where none was begun.
    """
    plans = stored_plans(ledger, "confirm")
    if round_ is not None:
        plans = [plan for plan in plans if plan.round == round_]
    if not plans:
        return None
    plan, everything = plans[-1], ledger.records("confirm")
    records = records_of(plan, everything)
    finished = plan.finished(records)
    said = _said(ledger, plan)
    ranks = ranks_of_arms(values_by_pair(plan, records))
    arms = tuple(_arm(arm, records, said.get(arm.label), ranks.get(arm.label, (None, None))) for arm in plan.arms)
    versus = _versus(plan, records, said, finished=finished)
    found = Confirmation(
        sweep=ledger.name,
        metric=plan.objective.metric,
        train_on=plan.train_on,
        planned_seeds=len(plan.seeds),
        round=plan.round,
        arms=arms,
        versus=versus,
        looks=sum(map(_looks, everything)),
        seconds=sum(float(record.attributes.get("seconds", 0.0)) for record in records),
        finished=finished,
        winner=_winner(arms, ledger.ranked),
        statement="",
        faults=sum(record.state == "failed" for record in records),
        pairs=on_pairs(plan, records),
    )
    return replace(found, statement=statement_of(found))


def _arm(
    arm: PlannedArm,
    records: Sequence[TrialRecord],
    said: float | None,
    ranks: tuple[float | None, float | None],
) -> Arm:
    own = [record for record in records if record.attributes["arm"] == arm.label]
    runs = tuple(_run(arm, record) for record in own if record.state == "complete")
    values = [run.value for run in runs]
    return Arm(
        label=arm.label,
        kind=arm.kind,
        trial=arm.trial,
        search_value=said if arm.search_value is None else arm.search_value,
        config=arm.config,
        pairs=arm.pairs,
        runs=runs,
        failures=failures_of(arm.label, records),
        mean=statistics.fmean(values) if values else None,
        sd=statistics.stdev(values) if len(values) > 1 else None,
        mean_rank=ranks[0],
        worst_rank=ranks[1],
    )


def _run(arm: PlannedArm, record: TrialRecord) -> Run:
    curve = mean_curve(curves_of(arm, record))
    best_epoch = max(curve, key=lambda epoch: (curve[epoch], -epoch))
    return Run(
        trial=record.number,
        seed=int(record.attributes["seed"]),
        value=record.values[0],
        best_value=curve[best_epoch],
        best_epoch=best_epoch,
        looks=_looks(record),
        seconds=float(record.attributes.get("seconds", 0.0)),
    )


def _looks(record: TrialRecord) -> int:
    """Count a run's evaluations; one that diverged before its first has chance level at epoch 0, which is none."""
    return sum(epoch > 0 for epoch in record.curve)


def _said(ledger: Ledger, plan: Plan) -> dict[str, float]:
    """Give what the search measured for each arm, where that is comparable: top-1, in points."""
    if plain_sweep(ledger)["objectives"][0]["metric"] != "val/top1":
        return {}
    enqueued = {record.baseline: record.values[0] for record in ledger.records() if record.baseline and record.values}
    values = {arm.label: enqueued.get(arm.label) if arm.search_value is None else arm.search_value for arm in plan.arms}
    return {label: value for label, value in values.items() if value is not None}


def _versus(
    plan: Plan, records: Sequence[TrialRecord], said: Mapping[str, float], *, finished: bool
) -> tuple[Versus, ...]:
    values = values_by_arm(plan, records)
    compared = plan.compared(values, len(plan.seeds))
    decisions = plan.decided(values, len(plan.seeds), finished=finished)
    found = []
    for (finalist, baseline), item, decision in zip(plan.pairs, compared, decisions, strict=True):
        if not item:
            continue
        alone = paired(item, 1 - plan.alpha, early=len(item) < len(plan.seeds))
        one, other = said.get(finalist), said.get(baseline)
        gain = None if one is None or other is None else one - other
        found.append(
            Versus(
                finalist=finalist,
                baseline=baseline,
                seeds=tuple(seed for seed in plan.seeds if seed in values[finalist] and seed in values[baseline]),
                differences=item,
                mean=alone.mean,
                low=alone.low,
                high=alone.high,
                level=alone.level,
                sure_low=decision.low,
                sure_high=decision.high,
                p_t=alone.p_t,
                p_wilcoxon=alone.p_wilcoxon,
                p=decision.p,
                p_holm=decision.p_holm,
                verdict=decision.verdict,
                search_said=gain,
                shrinkage=None if gain is None else gain - alone.mean,
            )
        )
    return tuple(found)


def _winner(arms: Sequence[Arm], ranked: RankName | None) -> str | None:
    """Choose the best mean over the seeds that all have, of the finalists that failed on the fewest seeds.

    One that was decided early has fewer seeds than the others, and is compared with them on those. Over several pairs
    the sweep's rank comes before the mean.
    """
    finalists = [arm for arm in arms if arm.kind == "finalist" and arm.runs]
    if not finalists:
        return None
    fewest = min(len(arm.failures) for arm in finalists)
    values = {arm.label: {run.seed: run.value for run in arm.runs} for arm in finalists if len(arm.failures) == fewest}
    shared = set.intersection(*map(set, values.values()))

    ranks = {arm.label: (arm.worst_rank if ranked == "worst" else arm.mean_rank) or 0.0 for arm in finalists}

    def merit(label: str) -> tuple[float, float]:
        own = values[label]
        return -ranks[label], statistics.fmean(own[seed] for seed in shared or own)

    return max(values, key=merit)
