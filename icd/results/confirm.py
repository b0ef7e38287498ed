"""``icd confirm``: finalists and named baselines on fresh shared seeds, and what that shows."""

import json
import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

from icd.config.sweep import Baseline, SweepConfig
from icd.config.trial import TrialConfig
from icd.errors import StateError, UsageError, did_you_mean
from icd.methods import PAPER_ROWS
from icd.results.arms import Plan, PlannedArm, begin_plan, fresh_seeds, records_of, stored_plans, values_by_arm
from icd.results.confirmation import Arm, Confirmation, Run, Versus
from icd.results.sequential import decide
from icd.results.statements import statement_of
from icd.results.statistics import paired
from icd.search.choosing import configuration
from icd.search.outbox import Outbox
from icd.search.reading import plain_sweep
from icd.search.record import TrialRecord
from icd.search.session import Settings
from icd.search.space import SearchSpace
from icd.search.stages import run_stage
from icd.search.studies import find
from icd.search.study import Ledger
from icd.trial.checkpoint import write_durably

USUAL_BASELINES = ("KD", "SD-KD", "iCD-KD")
_TOP, _SEEDS = 3, 5


def run_confirmation(
    name: str,
    settings: Settings,
    *,
    top: int | None = None,
    seeds: int | None = None,
    against: Sequence[str] = (),
    train_on: Literal["train", "train+val"] | None = None,
    alpha: float | None = None,
    adaptive: bool | None = None,
    anew: bool = False,
    overrides: Sequence[str] = (),
) -> Confirmation:
    """Confirm a sweep, or go on with it: a plan that was begun stays as it is, and what it leaves open is not asked.

    Args:
        name: Of the sweep.
        settings: How and where.
        top: Finalists; 3.
        seeds: At most; 5.
        against: See ``make_plan``.
        train_on: ``train+val`` by default.
        alpha: Chance of any false difference; 0.05.
        adaptive: Whether seeds end where everything is decided; True.
        anew: Begin another confirmation, on seeds of its own.
        overrides: Changes of the sweep's resources.

    Raises:
        StateError: If another driver has the sweep, no trial is complete, or a different confirmation was begun.
        Interrupted: If a signal stopped it; the same call goes on.
    """
    given = {"top": top, "seeds": seeds, "train_on": train_on, "alpha": alpha, "adaptive": adaptive}
    asked: dict[str, Any] = {key: value for key, value in given.items() if value is not None}

    def listed(ledger: Ledger, sweep: SweepConfig) -> Plan:
        plans = stored_plans(ledger, "confirm")
        if plans and not anew and not asked and not against:
            return plans[-1]
        return begin_plan(
            ledger, make_plan(ledger, sweep, **{"top": _TOP, "seeds": _SEEDS, "against": against, **asked}), anew=anew
        )

    done = run_stage(name, listed, settings, overrides, _tell)
    if done.pending:
        settings.announce(f"{done.pending} events wait for MLflow: 'icd flush {name}'")
    found = confirmation_of(find(settings.root, name))
    if found is None:
        raise StateError(f"sweep {name!r} lost its confirmation while it ran")
    return found


def _tell(ledger: Ledger, outbox: Outbox) -> None:
    """Keep what was found beside the sweep, and tell MLflow."""
    found = confirmation_of(ledger)
    if found is None:
        return
    path = outbox.path.parent / "confirmation.json"
    write_durably(path, (json.dumps(found.to_data(), indent=1) + "\n").encode())
    metrics = {"confirm/test_looks": float(found.looks)}
    for arm in found.arms:
        if arm.mean is not None:
            metrics[f"confirm/{arm.label.replace(' ', '_')}"] = arm.mean
    revision = int(time.time())
    tags = {"confirmed": found.statement, "winner": found.winner or ""}
    outbox.summary(revision, time_ms=1000 * revision, metrics=metrics, tags=tags, artifacts=[path.name], finished=True)


def make_plan(
    ledger: Ledger,
    sweep: SweepConfig,
    *,
    top: int,
    seeds: int,
    against: Sequence[str] = (),
    train_on: Literal["train", "train+val"] = "train+val",
    alpha: float = 0.05,
    adaptive: bool = True,
) -> Plan:
    """Choose the finalists of a sweep and its baselines.

    Args:
        ledger: Its study.
        sweep: Its configuration.
        top: Finalists: the best complete trials by the first objective that are no baselines themselves.
        seeds: At most.
        against: Rows of the paper, labels of the sweep's own baselines, or ``trial N``; by default the sweep's own, and
            KD, SD-KD and iCD-KD where it has none.
        train_on: What is trained on.
        alpha: Chance of any false difference.
        adaptive: Whether seeds end where everything is decided.

    Raises:
        StateError: If no trial is complete.
        UsageError: For a baseline that is none, or fewer than two seeds.
    """
    if top < 1 or seeds < 2:
        raise UsageError(f"--top must be 1 or more and --seeds 2 or more, but got {top} and {seeds}")
    space, records = SearchSpace(sweep), ledger.records()
    labels = against or [baseline.label for baseline in sweep.enqueue] or USUAL_BASELINES
    baselines = [_baseline(label, sweep, space, records) for label in dict.fromkeys(labels)]
    compared = [_seedless(config) for _, config in baselines]
    sign = 1.0 if sweep.objectives[0].direction == "maximize" else -1.0
    complete = sorted(
        (record for record in records if record.state == "complete"),
        key=lambda record: (-sign * record.values[0], record.number),
    )
    finalists: list[PlannedArm] = []
    for record in complete:
        config = _seedless(configuration(sweep, space, record))
        if config in compared or len(finalists) == top:
            continue
        compared.append(config)
        finalists.append(
            PlannedArm(
                label=f"trial {record.number}",
                kind="finalist",
                trial=record.number,
                search_value=record.values[0],
                config=config.to_data(),
            )
        )
    if not finalists:
        raise StateError(
            f"sweep {ledger.name!r} has no finalist: no trial has run all its epochs that is not one of "
            f"{', '.join(labels)}; see 'icd trials {ledger.name}'"
        )
    used = {configuration(sweep, space, record).seed for record in records if record.key and record.state != "failed"}
    return Plan(
        stage="confirm",
        arms=(*finalists, *(arm for arm, _ in baselines)),
        seeds=fresh_seeds(ledger, used, seeds),
        first=min(3, seeds),
        alpha=alpha,
        adaptive=adaptive,
        train_on=train_on,
    )


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
    ended = {record.baseline for record in records if record.state != "running"}
    finished = all(run.label in ended for run in plan.runs(records))
    arms = tuple(_arm(arm, records) for arm in plan.arms)
    versus = _versus(plan, records, _said(ledger, plan), finished=finished)
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
        winner=_winner(arms),
        statement="",
        faults=sum(record.state == "failed" for record in records),
    )
    return replace(found, statement=statement_of(found))


def _baseline(
    label: str, sweep: SweepConfig, space: SearchSpace, records: Sequence[TrialRecord]
) -> tuple[PlannedArm, TrialConfig]:
    own = {baseline.label: baseline for baseline in sweep.enqueue}
    trials = {f"trial {record.number}": record for record in records if record.state == "complete"}
    if label in own or label in PAPER_ROWS:
        baseline = own.get(label) or Baseline(label=label, changes={"method": label})
        config = _seedless(space.read(space.baseline(baseline)))
        return PlannedArm(label=label, kind="baseline", config=config.to_data()), config
    if label in trials:
        config = _seedless(configuration(sweep, space, trials[label]))
        number, value = trials[label].number, trials[label].values[0]
        arm = PlannedArm(label=label, kind="baseline", trial=number, search_value=value, config=config.to_data())
        return arm, config
    known = [*own, *PAPER_ROWS, *list(trials)[:3]]
    raise UsageError(f"--against must name rows, baselines or trials, but got {label!r}; {did_you_mean(label, known)}")


def _seedless(config: TrialConfig) -> TrialConfig:
    return replace(config, seed=0)


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
    pairs = [(pair, item) for pair, item in zip(plan.pairs, compared, strict=True) if item]
    decisions = decide(plan.test, [item for _, item in pairs]) if pairs else ()
    found = []
    for ((finalist, baseline), item), decision in zip(pairs, decisions, strict=True):
        alone = paired(item)
        one, other = said.get(finalist), said.get(baseline)
        gain = None if one is None or other is None else one - other
        # Runs that failed may leave a comparison open when nothing is left to run.
        verdict = "no difference shown" if finished and decision.verdict == "open" else decision.verdict
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
                verdict=verdict,
                search_said=gain,
                shrinkage=None if gain is None else gain - alone.mean,
            )
        )
    return tuple(found)


def _winner(arms: Sequence[Arm]) -> str | None:
    """Choose the best mean over the seeds that all have, of the finalists that failed on the fewest seeds.

    One that was decided early has fewer seeds than the others, and is compared with them on those.
    """
    finalists = [arm for arm in arms if arm.kind == "finalist" and arm.runs]
    if not finalists:
        return None
    fewest = min(len(arm.failures) for arm in finalists)
    values = {arm.label: {run.seed: run.value for run in arm.runs} for arm in finalists if len(arm.failures) == fewest}
    shared = set.intersection(*map(set, values.values()))

    def mean(label: str) -> float:
        own = values[label]
        return statistics.fmean(own[seed] for seed in shared or own)

    return max(values, key=mean)
