"""``icd explain``: what each part of a configuration is worth, by leaving it out on paired fresh seeds.

Nothing is looked up on test images: arms train on the training images and are measured on the validation images.
"""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

from icd.config.sweep import SweepConfig
from icd.config.trial import TrialConfig
from icd.errors import StateError
from icd.losses import KnowledgeDistillation
from icd.methods import CellDistillation
from icd.results.arms import Plan, PlannedArm, begin_plan, fresh_seeds, records_of, stored_plans, values_by_arm
from icd.results.confirmation import Verdict
from icd.results.confirmed import confirmation_of
from icd.results.statistics import paired, within_one_se
from icd.search.record import best
from icd.search.session import Settings
from icd.search.space import SearchSpace
from icd.search.stages import run_stage
from icd.search.studies import find
from icd.search.study import Ledger
from icd.search.warm_start import stored_starts

WHOLE = "whole"
_SEEDS = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One part, left out or set to its default.

    Attributes:
        label: What was done.
        parts: How many parts the rest still has; see ``complexity``.
        mean: Of the arm, on validation images; None without runs.
        difference: Of the arm to the whole configuration, in points; below 0 where the part helps.
        low: Lower end of its interval; None before the first look, or where differences do not vary.
        high: Upper end.
        seeds: Shared with the whole configuration.
        p_holm: Corrected for the looks and for all parts.
        verdict: ``worse`` means that the part is needed.
    """

    label: str
    parts: int
    mean: float | None
    difference: float | None
    low: float | None
    high: float | None
    seeds: int
    p_holm: float | None
    verdict: Verdict


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """What the parts of one configuration are worth.

    Attributes:
        sweep: Its name.
        trial: The configuration that was taken apart.
        metric: ``val/top1``.
        mean: Of the whole configuration.
        sd: Sample standard deviation.
        parts: Of the whole configuration.
        rows: One for each part.
        simplest: The simplest arm within one standard error of the best.
        finished: Whether nothing is left to run.
        statement: The finding in plain words.
    """

    sweep: str
    trial: int
    metric: str
    mean: float | None
    sd: float | None
    parts: int
    rows: tuple[Part, ...]
    simplest: str | None
    finished: bool
    statement: str

    def to_data(self) -> dict[str, Any]:
        """Write it for JSON."""
        return asdict(self)


def ablations(config: TrialConfig) -> dict[str, TrialConfig]:
    """Leave out, one at a time, what a configuration on logits is made of; equal ones are listed once."""
    method = config.method
    if not isinstance(method, CellDistillation):
        return {}
    changed: dict[str, CellDistillation] = {}
    if len(method.scales) > 1:
        changed |= {f"without scale {scale}": _without(method, scale) for scale in method.scales}
    if method.cluster_weight and method.has_cluster_term:
        changed["cluster weight 0"] = replace(method, cluster_weight=0.0)
        usual = _default(CellDistillation, "cluster_temperature")
        changed[f"cluster temperature {usual:g}"] = replace(method, cluster_temperature=usual)
        changed["the authors' scale weights"] = replace(method, scale_weights=None)
    loss = method.base_loss
    for field in fields(loss):  # type: ignore[arg-type]
        usual = _default(type(loss), field.name)
        if isinstance(usual, float):
            changed[f"{field.name} {usual:g}"] = replace(method, base_loss=replace(loss, **{field.name: usual}))  # type: ignore[type-var]
    if not isinstance(loss, KnowledgeDistillation):
        changed["base loss KD"] = replace(method, base_loss=KnowledgeDistillation())
    found: dict[str, TrialConfig] = {}
    for label, other in changed.items():
        if other != method and replace(config, method=other) not in found.values():
            found[label] = replace(config, method=other)
    return found


def complexity(config: TrialConfig) -> int:
    """Count the parts of a configuration.

    They are the scales but one, the cluster term, a base loss other than KD, and every setting that is not its default.
    """
    method = config.method
    if not isinstance(method, CellDistillation):
        return 1
    loss = method.base_loss
    changed = [getattr(loss, field.name) != _default(type(loss), field.name) for field in fields(loss)]  # type: ignore[arg-type]
    clustered = bool(method.cluster_weight and method.has_cluster_term)
    usual = replace(method, scale_weights=None)
    settings = [
        clustered and method.cluster_temperature != _default(CellDistillation, "cluster_temperature"),
        clustered and method.scale_weights != usual.scale_weights,
        method.base_scale_weights is not None,
    ]
    present = [clustered, not isinstance(loss, KnowledgeDistillation), *changed, *settings]
    return len(method.scales) - 1 + sum(bool(part) for part in present)


def run_explanation(
    name: str,
    settings: Settings,
    *,
    trial: int | None = None,
    seeds: int | None = None,
    anew: bool = False,
    overrides: Sequence[str] = (),
) -> Explanation:
    """Take a configuration apart, or go on with it.

    Args:
        name: Of the sweep.
        settings: How and where.
        trial: Number of a complete search trial; by default the confirmed winner, else the best one.
        seeds: At most; 5.
        anew: Begin another explanation, on seeds of its own.
        overrides: Changes of the sweep's resources.

    Raises:
        StateError: If another driver has the sweep, or there is nothing to take apart.
        Interrupted: If a signal stopped it; the same call goes on.
    """

    def listed(ledger: Ledger, sweep: SweepConfig) -> Plan:
        plans = stored_plans(ledger, "explain")
        if plans and not anew and trial is None and seeds is None:
            return plans[-1]
        return begin_plan(ledger, make_plan(ledger, sweep, trial=trial, seeds=seeds or _SEEDS), anew=anew)

    run_stage(name, listed, settings, overrides)
    found = explanation_of(find(settings.root, name))
    if found is None:
        raise StateError(f"sweep {name!r} lost its explanation while it ran")
    return found


def make_plan(ledger: Ledger, sweep: SweepConfig, *, trial: int | None, seeds: int) -> Plan:
    """Choose a configuration and list its parts.

    Raises:
        StateError: If there is none, or it has no parts.
    """
    space, records = SearchSpace(sweep, stored_starts(ledger)), ledger.records()
    number = _winner(ledger) if trial is None else trial
    chosen = next((record for record in records if record.number == number and record.state == "complete"), None)
    if chosen is None and trial is None:
        chosen = best(records, maximize=sweep.objectives[0].direction == "maximize")
    if chosen is None:
        which = "no trial" if trial is None else f"trial {trial}"
        raise StateError(f"{which} of sweep {ledger.name!r} has run all its epochs; see 'icd trials {ledger.name}'")
    config = replace(space.read(space.tried(chosen)), seed=0)
    parts = ablations(config)
    if not parts:
        raise StateError(f"trial {chosen.number} of {ledger.name!r} has no part that could be left out")
    whole = PlannedArm(label=WHOLE, kind="baseline", trial=chosen.number, config=config.to_data())
    arms = [PlannedArm(label=label, kind="finalist", config=other.to_data()) for label, other in parts.items()]
    used = {space.read(space.tried(record)).seed for record in records if record.state == "complete"}
    return Plan(
        stage="explain",
        arms=(*arms, whole),
        seeds=fresh_seeds(ledger, used, seeds),
        first=min(3, seeds),
        train_on="train",
        measure_on="val",
    )


def explanation_of(ledger: Ledger) -> Explanation | None:
    """Say what the last explanation of a sweep shows so far; None where none was begun."""
    plans = stored_plans(ledger, "explain")
    if not plans:
        return None
    plan = plans[-1]
    records = records_of(plan, ledger.records("explain"))
    finished = plan.finished(records)
    values = values_by_arm(plan, records)
    compared = plan.compared(values, len(plan.seeds))
    decisions = plan.decided(values, len(plan.seeds))
    configs = plan.by_label()
    rows = []
    for (label, _), item, decision in zip(plan.pairs, compared, decisions, strict=True):
        rows.append(
            Part(
                label=label,
                parts=complexity(configs[label]),
                mean=_mean(values[label]),
                difference=paired(item).mean if item else None,
                low=decision.low if item else None,
                high=decision.high if item else None,
                seeds=len(item),
                p_holm=decision.p_holm if item else None,
                # Runs that failed may leave a comparison open when nothing is left to run.
                verdict="no difference shown" if finished and decision.verdict == "open" else decision.verdict,
            )
        )
    whole = list(values[WHOLE].values())
    found = Explanation(
        sweep=ledger.name,
        trial=next(arm.trial for arm in plan.arms if arm.label == WHOLE) or 0,
        metric=plan.objective.metric,
        mean=_mean(values[WHOLE]),
        sd=statistics.stdev(whole) if len(whole) > 1 else None,
        parts=complexity(configs[WHOLE]),
        rows=tuple(rows),
        simplest=_simplest(plan, values, {label: complexity(config) for label, config in configs.items()}),
        finished=finished,
        statement="",
    )
    return replace(found, statement=_statement(found))


def _winner(ledger: Ledger) -> int | None:
    found = confirmation_of(ledger)
    return found.arm(found.winner).trial if found is not None and found.winner is not None else None


def _without(method: CellDistillation, scale: int) -> CellDistillation:
    """Leave a scale out; the others share its weight in the proportions they had."""
    kept = [place for place, other in enumerate(method.scales) if other != scale]

    def left(weights: tuple[float, ...] | None) -> tuple[float, ...] | None:
        rest = tuple(weights[place] for place in kept) if weights is not None else ()
        return rest if sum(rest) > 0 else None

    return replace(
        method,
        scales=tuple(method.scales[place] for place in kept),
        scale_weights=left(method.scale_weights),
        base_scale_weights=left(method.base_scale_weights),
    )


def _default(cls: type, name: str) -> Any:
    return next(field.default for field in fields(cls) if field.name == name)


def _mean(values: Mapping[int, float]) -> float | None:
    return statistics.fmean(values.values()) if values else None


def _simplest(plan: Plan, values: Mapping[str, Mapping[int, float]], parts: Mapping[str, int]) -> str | None:
    """Apply the one-standard-error rule to the arms that had their first seeds; the best is one with all of them."""
    known = {label: own for label, own in values.items() if len(own) >= plan.first}
    if not known:
        return None
    most = max(len(own) for own in known.values())
    means = {label: statistics.fmean(own.values()) for label, own in known.items()}
    top = max((label for label in known if len(known[label]) == most), key=lambda label: (means[label], -parts[label]))
    order = sorted(known, key=lambda label: (parts[label], -means[label]))
    shared = {
        label: [own[seed] - known[top][seed] for seed in own if seed in known[top]]
        for label, own in known.items()
        if label != top
    }
    return within_one_se(shared, order, top)


def _statement(found: Explanation) -> str:
    if found.mean is None:
        return "Nothing can be said yet: the whole configuration has no complete run."
    needed = [row for row in found.rows if row.verdict == "worse"]
    better = [row for row in found.rows if row.verdict == "better"]
    lines = [f"Trial {found.trial} reaches {found.mean:.2f} % on validation images."]
    lines += [f"It gets worse by {-(row.difference or 0):.2f} points with: {row.label}." for row in needed]
    lines += [f"It gets better by {row.difference:+.2f} points with: {row.label}." for row in better]
    rest = [row.label for row in found.rows if row.verdict not in ("worse", "better") and row.seeds]
    lines += [f"No difference was shown with: {', '.join(rest)}."] if rest else []
    if found.simplest is not None:
        lines.append(
            "Nothing simpler is within one standard error of the best."
            if found.simplest == WHOLE
            else f"The simplest within one standard error of the best: {found.simplest}."
        )
    lines += [] if found.finished else ["This explanation is not finished."]
    return " ".join(lines)
