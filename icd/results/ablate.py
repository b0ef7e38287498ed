"""``icd ablate``: what each part of a configuration is worth, by leaving it out on shared fresh seeds.

Nothing is looked up on test images: arms train on the training images and are measured on the validation images.
"""

from dataclasses import fields, replace
from pathlib import Path
from typing import get_args

from icd.config.sweep import SweepConfig
from icd.config.trial import TrialConfig
from icd.errors import StateError
from icd.fields import annotations
from icd.losses import KnowledgeDistillation
from icd.methods import CellDistillation
from icd.results.outcome import WHOLE, FailedRuns
from icd.results.plan import Plan
from icd.results.read_outcome import outcome_of
from icd.results.searched import Searched, planned_arm
from icd.search import root_of
from icd.search.study.ledger import Ledger
from icd.search.study.sweep_index import pasted


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
        usual = CellDistillation().cluster_temperature
        changed[f"cluster temperature {usual:g}"] = replace(method, cluster_temperature=usual)
        changed["the authors' scale weights"] = replace(method, cluster_scale_weights=None)
    if method.base_weight:
        changed |= _of_base_term(method)
    found: dict[str, TrialConfig] = {}
    for label, other in changed.items():
        if other != method and replace(config, method=other) not in found.values():
            found[label] = replace(config, method=other)
    return found


def _of_base_term(method: CellDistillation) -> dict[str, CellDistillation]:
    """Set one at a time what only the base term reads: the loss, its fields, and the weights of scales."""
    changed: dict[str, CellDistillation] = {}
    if method.base_scale_weights is not None:
        changed["all cells alike in the base loss"] = replace(method, base_scale_weights=None)
    loss, as_usual = method.base_loss, type(method.base_loss)()
    for field in fields(loss):  # type: ignore[arg-type]
        usual = getattr(as_usual, field.name)
        kind = annotations(type(loss))[field.name]
        if type(usual) in (int, float) and float in (kind, *get_args(kind)):
            changed[f"{field.name} {usual:g}"] = replace(method, base_loss=replace(loss, **{field.name: usual}))  # type: ignore[type-var]
    if not isinstance(loss, KnowledgeDistillation):
        changed["base loss KD"] = replace(method, base_loss=KnowledgeDistillation())
    return changed


def complexity(config: TrialConfig) -> int:
    """Count what can be left out of a configuration or set to its default; of several scales all but one."""
    method = config.method
    is_scaled = isinstance(method, CellDistillation) and len(method.scales) > 1
    return len(ablations(config)) - int(is_scaled)


def make_plan(
    ledger: Ledger,
    sweep: SweepConfig,
    *,
    trial: int | None = None,
    seeds: int = 5,
    failed_runs: FailedRuns = "left-out",
    root: Path | None = None,
) -> Plan:
    """Choose a configuration and list its parts.

    Args:
        ledger: Of the sweep.
        sweep: Its configuration.
        trial: Number of a complete search trial; by default the winner of a finished confirmation, else the best one,
            which is announced.
        seeds: At most.
        failed_runs: What a run counts that diverged.
        root: Folder of results, for commands that a message names.

    Raises:
        StateError: If there is none, or it has no parts.
    """
    searched, confirmed = Searched.of(ledger, sweep), outcome_of(ledger, "confirm")
    number = trial
    if trial is None and confirmed is not None and confirmed.finished and confirmed.winner is not None:
        number = confirmed.arm(confirmed.winner).trial
    chosen = next((record for record in searched.ordered if record.number == number), None)
    if number is None and searched.ordered:
        chosen = searched.ordered[0]
        ledger.announce(f"no confirmed winner of {ledger.name}, so its best trial is taken apart: {chosen.number}")
    if chosen is None:
        which = "no trial" if trial is None else f"trial {trial}"
        see = pasted(root_of(root), "trials", ledger.name)
        raise StateError(f"{which} of sweep {ledger.name!r} has run all its epochs; see '{see}'")
    whole = searched.configs(chosen)
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
        seeds=searched.fresh_seeds(seeds),
        first=min(3, seeds),
        train_on="train",
        measure_on="val",
        failed_runs=failed_runs,
    )


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
