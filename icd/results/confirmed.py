"""Reads what a confirmation shows so far from its study; imports no torch."""

import statistics
from collections.abc import Sequence
from dataclasses import replace

from icd.results.arms import Plan, PlannedArm, records_of, stored_plans, values_by_arm
from icd.results.confirmation import Arm, Confirmation, Run, Versus
from icd.results.statements import statement_of
from icd.results.statistics import paired
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
    arms = tuple(_arm(arm, records) for arm in plan.arms)
    said = {record.baseline: record.values[0] for record in ledger.records() if record.baseline and record.values}
    versus = _versus(plan, records, arms, said, finished=finished)
    found = Confirmation(
        sweep=ledger.name,
        metric=plan.objective.metric,
        train_on=plan.train_on,
        planned_seeds=len(plan.seeds),
        round=plan.round,
        arms=arms,
        versus=versus,
        looks=sum(len(record.curve) for record in everything),
        seconds=sum(float(record.attributes.get("seconds", 0.0)) for record in records),
        finished=finished,
        winner=_winner(arms),
        statement="",
    )
    return replace(found, statement=statement_of(found))


def _arm(arm: PlannedArm, records: Sequence[TrialRecord]) -> Arm:
    own = [record for record in records if record.attributes["arm"] == arm.label]
    runs = tuple(_run(record) for record in own if record.state == "complete")
    values = [run.value for run in runs]
    failures = {int(record.attributes["seed"]): record.reason for record in own if record.state in ("pruned", "failed")}
    return Arm(
        label=arm.label,
        kind=arm.kind,
        trial=arm.trial,
        search_value=arm.search_value,
        config=arm.config,
        runs=runs,
        failures=failures,
        mean=statistics.fmean(values) if values else None,
        sd=statistics.stdev(values) if len(values) > 1 else None,
    )


def _run(record: TrialRecord) -> Run:
    best_epoch = max(record.curve, key=lambda epoch: (record.curve[epoch], -epoch))
    return Run(
        trial=record.number,
        seed=int(record.attributes["seed"]),
        value=record.values[0],
        best_value=record.curve[best_epoch],
        best_epoch=best_epoch,
        looks=len(record.curve),
        seconds=float(record.attributes.get("seconds", 0.0)),
    )


def _versus(
    plan: Plan, records: Sequence[TrialRecord], arms: Sequence[Arm], said: dict[str, float], *, finished: bool
) -> tuple[Versus, ...]:
    values = values_by_arm(plan, records)
    compared = plan.compared(values, len(plan.seeds))
    decisions = plan.decided(values, len(plan.seeds), no_more=finished)
    by_label = {arm.label: arm for arm in arms}
    found = []
    for (finalist, baseline), item, decision in zip(plan.pairs, compared, decisions, strict=True):
        if not item:
            continue
        alone = paired(item)
        one, other = by_label[finalist].search_value, by_label[baseline].search_value
        other = said.get(baseline) if other is None else other
        gain = None if one is None or other is None else one - other
        found.append(
            Versus(
                finalist=finalist,
                baseline=baseline,
                seeds=tuple(seed for seed in plan.seeds if seed in values[finalist] and seed in values[baseline]),
                differences=item,
                mean=alone.mean,
                low=decision.low,
                high=decision.high,
                level=1 - plan.alpha,
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


def _winner(arms: Sequence[Arm]) -> str | None:
    """The best mean among the finalists with the most seeds; one that failed on a seed comes after all others."""
    finalists = [arm for arm in arms if arm.kind == "finalist" and arm.mean is not None]
    if not finalists:
        return None
    return max(finalists, key=lambda arm: (-len(arm.failures), len(arm.runs), arm.mean or 0.0)).label
