"""``icd ablate``: what each part of a configuration is worth, by leaving it out on shared fresh seeds.

Nothing is looked up on test images: arms train on the training images and are measured on the validation images.
"""

from collections.abc import Sequence
from dataclasses import fields, replace
from functools import partial
from pathlib import Path
from typing import Any

from icd.config.sweep import SweepConfig
from icd.config.trial import TrialConfig
from icd.errors import StateError
from icd.losses import KnowledgeDistillation
from icd.methods import CellDistillation
from icd.results.ablation import WHOLE, Ablation, ablation_of
from icd.results.arm_runs import note_arms
from icd.results.confirmation import confirmation_of
from icd.results.plan import FailedRuns, Plan, begin_plan, fresh_seeds, planned_arm, stored_plans
from icd.results.race import seedless, seeds_of
from icd.search import default_root
from icd.search.core.records import best
from icd.search.session import written_report
from icd.search.settings import Settings
from icd.search.study.ledger import Ledger
from icd.search.study.sweep_index import find, pasted
from icd.search.suggest.search_space import SearchSpace
from icd.search.suggest.warm_start import stored_starts
from icd.search.trial_list import run_stage

_SEEDS = 5


def ablations(config: TrialConfig) -> dict[str, TrialConfig]:
    """Leave out, one at a time, what a configuration on logits is made of; equal ones are listed once."""
    method = config.method
    if not isinstance(method, CellDistillation):
        return {}
    changed: dict[str, CellDistillation] = {}
    if len(method.scales) > 1:
        changed |= {f"without scale {scale}": _without(method, scale) for scale in method.scales}
    if method.cluster_weight and method.has_cluster_term:
        if method.ce_weight or method.base_weight:  # else nothing would be left
            changed["cluster weight 0"] = replace(method, cluster_weight=0.0)
        usual = _default(CellDistillation, "cluster_temperature")
        changed[f"cluster temperature {usual:g}"] = replace(method, cluster_temperature=usual)
        changed["the authors' scale weights"] = replace(method, cluster_scale_weights=None)
    if method.base_scale_weights is not None:
        changed["all cells alike in the base loss"] = replace(method, base_scale_weights=None)
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
    usual = replace(method, cluster_scale_weights=None)
    settings = [
        clustered and method.cluster_temperature != _default(CellDistillation, "cluster_temperature"),
        clustered and method.cluster_scale_weights != usual.cluster_scale_weights,
        method.base_scale_weights is not None,
    ]
    present = [clustered, not isinstance(loss, KnowledgeDistillation), *changed, *settings]
    return len(method.scales) - 1 + sum(bool(part) for part in present)


def run_ablation(
    name: str,
    settings: Settings,
    *,
    trial: int | None = None,
    seeds: int | None = None,
    failed_runs: FailedRuns | None = None,
    anew: bool = False,
    overrides: Sequence[str] = (),
) -> Ablation:
    """Take a configuration apart, or go on with it.

    Args:
        name: Of the sweep.
        settings: How and where.
        trial: Number of a complete search trial; by default the confirmed winner, else the best one.
        seeds: At most; 5.
        failed_runs: What a run counts that diverged; ``left-out``.
        anew: Begin another ablation, on seeds of its own.
        overrides: Changes of the sweep's resources.

    Raises:
        StateError: If another driver has the sweep, or there is nothing to take apart.
        Interrupted: If a signal stopped it; the same call goes on.
    """

    def listed(ledger: Ledger, sweep: SweepConfig) -> Plan:
        plans = stored_plans(ledger, "ablate")
        if plans and not anew and trial is None and seeds is None and failed_runs is None:
            return plans[-1]
        counted = failed_runs or "left-out"
        wanted = make_plan(ledger, sweep, trial=trial, seeds=seeds or _SEEDS, failed_runs=counted, root=settings.root)
        return begin_plan(ledger, wanted, anew=anew)

    run_stage(name, listed, settings, overrides, partial(_tell_ablation, settings))
    found = ablation_of(find(settings.root, name))
    if found is None:
        raise StateError(f"sweep {name!r} lost its ablation while it ran")
    return found


def _tell_ablation(settings: Settings, ledger: Ledger, folder: Path) -> None:
    found = ablation_of(ledger)
    if found is not None:
        note_arms(ledger, "ablate", found)
        written_report(ledger.name, folder, settings)


def make_plan(
    ledger: Ledger,
    sweep: SweepConfig,
    *,
    trial: int | None,
    seeds: int,
    failed_runs: FailedRuns = "left-out",
    root: Path | None = None,
) -> Plan:
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
        see = pasted(root or default_root(), "trials", ledger.name)
        raise StateError(f"{which} of sweep {ledger.name!r} has run all its epochs; see '{see}'")
    whole = seedless(space, space.tried(chosen))
    one = next(iter(whole.values()))  # pairs differ in their networks; their method is the same
    parts = ablations(one)
    if not parts:
        raise StateError(f"trial {chosen.number} of {ledger.name!r} has no part that could be left out")
    arms = [
        planned_arm(
            label,
            "finalist",
            {pair: replace(config, method=other.method) for pair, config in whole.items()},
            parts=complexity(other),
        )
        for label, other in parts.items()
    ]
    return Plan(
        stage="ablate",
        arms=(*arms, planned_arm(WHOLE, "baseline", whole, found=chosen, parts=complexity(one))),
        seeds=fresh_seeds(ledger, seeds_of(space, records), seeds),
        first=min(3, seeds),
        train_on="train",
        measure_on="val",
        failed_runs=failed_runs,
    )


def _winner(ledger: Ledger) -> int | None:
    found = confirmation_of(ledger)
    return found.arm(found.winner).trial if found is not None and found.winner is not None else None


def _without(method: CellDistillation, scale: int) -> CellDistillation:
    """Leave a scale out; the others share its weight in the proportions they had, the authors' stay the authors'."""
    kept = [place for place, other in enumerate(method.scales) if other != scale]

    def left(weights: tuple[float, ...] | None) -> tuple[float, ...] | None:
        rest = tuple(weights[place] for place in kept) if weights is not None else ()
        return rest if sum(rest) > 0 else None

    usual = method.cluster_scale_weights == replace(method, cluster_scale_weights=None).cluster_scale_weights
    return replace(
        method,
        scales=tuple(method.scales[place] for place in kept),
        cluster_scale_weights=None if usual else left(method.cluster_scale_weights),
        base_scale_weights=left(method.base_scale_weights),
    )


def _default(cls: type, name: str) -> Any:
    return next(field.default for field in fields(cls) if field.name == name)
