"""What pruning cost and saved, judged by the trials that were never stopped."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from icd.search.core.concordance import concordance, first_from, rungs
from icd.search.core.ranks import ranks
from icd.search.core.records import TrialRecord

_FEWEST = 3  # trials for a rank correlation


@dataclass(frozen=True, slots=True, kw_only=True)
class Rung:
    """How well the value at an epoch foretells the last one.

    Attributes:
        epoch: Where the pruner compares trials.
        trials: Complete trials with a value there.
        correlation: Spearman's; None for fewer than three trials, or where all are equal.
        concordance: Share of the pairs of trials that are in the same order there; None without a pair.
        pairs: Pairs of trials whose last values differ.
    """

    epoch: int
    trials: int
    correlation: float | None
    concordance: float | None
    pairs: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PruningAudit:
    """What pruning did to a sweep.

    Attributes:
        rungs: Rank correlation at each rung. Trials that survived pruning there are a choice with less spread, so the
            correlation errs downwards (restriction of range; Thorndike, Personnel Selection, 1949, chapter 5).
        controls: Complete trials that pruning could not stop.
        would_stop: Of those, how many the pruner wanted to stop.
        good_ones: Of these, how many ended among the best quarter of all complete trials.
        false_kill_rate: ``good_ones / would_stop``; None where nothing would have been stopped.
        pruned: Trials that were stopped.
        epochs_saved: Epochs that they did not train.
        saved_share: Part of the epochs that all of them and the complete trials would have taken.
    """

    rungs: tuple[Rung, ...]
    controls: int
    would_stop: int
    good_ones: int
    false_kill_rate: float | None
    pruned: int
    epochs_saved: int
    saved_share: float

    def to_data(self) -> dict[str, Any]:
        """Write it for JSON."""
        return asdict(self)


def pruning_audit(
    records: Sequence[TrialRecord], *, min_epochs: int, reduction: int, epochs: int, maximize: bool
) -> PruningAudit:
    """Judge the pruning of a sweep.

    Args:
        records: All trials.
        min_epochs: First rung.
        reduction: Ratio of one rung to the next.
        epochs: Of a whole trial.
        maximize: Whether the first objective is to be large.
    """
    complete = [record for record in records if record.state == "complete"]
    sign = 1.0 if maximize else -1.0
    finals = {record.number: sign * record.values[0] for record in complete}
    best_quarter = sorted(finals.values(), reverse=True)[: math.ceil(len(finals) / 4)]
    would_stop = [record for record in complete if record.control and record.would_stop_at is not None]
    good_ones = sum(finals[record.number] >= best_quarter[-1] for record in would_stop)
    pruned = [record for record in records if _was_pruned(record)]
    saved = sum(max(0, epochs - max(record.curve, default=0)) for record in pruned)
    total = epochs * (len(complete) + len(pruned))
    return PruningAudit(
        rungs=tuple(_rung(complete, rung) for rung in rungs(min_epochs, reduction, epochs)),
        controls=sum(record.control for record in complete),
        would_stop=len(would_stop),
        good_ones=good_ones,
        false_kill_rate=good_ones / len(would_stop) if would_stop else None,
        pruned=len(pruned),
        epochs_saved=saved,
        saved_share=saved / total if total else 0.0,
    )


def spearman(one: Sequence[float], other: Sequence[float]) -> float | None:
    """Rank correlation, equal values at their mean rank; None where it is not defined."""
    if len(one) < _FEWEST or len(set(one)) == 1 or len(set(other)) == 1:
        return None
    return float(np.corrcoef(ranks(one), ranks(other))[0, 1])


def _rung(complete: Sequence[TrialRecord], rung: int) -> Rung:
    """Compare the first value reported at a rung, which is what the pruner saw, with the last one."""
    seen = [(first_from(record.curve, rung), record.curve) for record in complete]
    pairs = [(early, curve[max(curve)]) for early, curve in seen if early is not None]
    found = concordance([record.curve for record in complete], rung)
    return Rung(
        epoch=rung,
        trials=len(pairs),
        correlation=spearman([early for early, _ in pairs], [last for _, last in pairs]),
        concordance=found.concordance,
        pairs=found.pairs,
    )


def _was_pruned(record: TrialRecord) -> bool:
    """Diverged trials are told as pruned too, but pruning did not stop them."""
    return record.state == "pruned" and record.attributes.get("exit_reason", "pruned") == "pruned"


def audit_sweep(sweep: Mapping[str, Any], records: Sequence[TrialRecord]) -> PruningAudit | None:
    """Judge the pruning of a study's sweep (as plain data); None without a pruner or before a trial is complete."""
    whole = [max(record.curve) for record in records if record.state == "complete" and record.curve]
    pruner = sweep["pruner"]
    compares = pruner["name"] != "none"
    if not whole or not (compares or pruner.get("dead_terms", False)):
        return None
    audit = pruning_audit(
        records,
        min_epochs=pruner["min_epochs"],
        reduction=pruner["reduction"],
        epochs=max(whole),
        maximize=sweep["objectives"][0]["direction"] == "maximize",
    )
    return audit if compares else replace(audit, rungs=())  # nobody compares trials at rungs
