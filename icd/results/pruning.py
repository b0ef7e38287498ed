"""What pruning cost and saved, judged by the trials that were never stopped."""

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

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


def audit_sweep(sweep: Mapping[str, Any], records: Sequence[TrialRecord]) -> PruningAudit | None:
    """Judge the pruning of a sweep; None without a pruner or before a trial is complete.

    Args:
        sweep: The study's, as plain data.
        records: All trials of the search.
    """
    complete = [record for record in records if record.state == "complete" and record.curve]
    pruner = sweep["pruner"]
    compares = pruner["name"] != "none"  # else nobody compares trials at rungs
    if not complete or not (compares or pruner.get("dead_terms", False)):
        return None
    epochs = max(max(record.curve) for record in complete)
    sign = 1.0 if sweep["objectives"][0]["direction"] == "maximize" else -1.0
    finals = {record.number: sign * record.values[0] for record in complete}
    best_quarter = sorted(finals.values(), reverse=True)[: math.ceil(len(finals) / 4)]
    would_stop = [record for record in complete if record.control and record.would_stop_at is not None]
    good_ones = sum(finals[record.number] >= best_quarter[-1] for record in would_stop)
    # Diverged trials are told as pruned too, but pruning did not stop them.
    kinds = {record.number: record.attributes.get("exit_reason", "pruned") for record in records}
    pruned = [record for record in records if record.state == "pruned" and kinds[record.number] == "pruned"]
    saved = sum(max(0, epochs - max(record.curve, default=0)) for record in pruned)
    places = rungs(pruner["min_epochs"], pruner["reduction"], epochs) if compares else []
    return PruningAudit(
        rungs=tuple(_rung(complete, rung) for rung in places),
        controls=sum(record.control for record in complete),
        would_stop=len(would_stop),
        good_ones=good_ones,
        false_kill_rate=good_ones / len(would_stop) if would_stop else None,
        pruned=len(pruned),
        epochs_saved=saved,
        saved_share=saved / (epochs * (len(complete) + len(pruned))),
    )


def _rung(complete: Sequence[TrialRecord], rung: int) -> Rung:
    """Compare the first value reported at a rung, which is what the pruner saw, with the last one."""
    seen = [(first_from(record.curve, rung), record.curve) for record in complete]
    pairs = [(early, curve[max(curve)]) for early, curve in seen if early is not None]
    early, last = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
    found = concordance([record.curve for record in complete], rung)
    is_defined = len(pairs) >= _FEWEST and len(set(early)) > 1 and len(set(last)) > 1
    return Rung(
        epoch=rung,
        trials=len(pairs),
        correlation=statistics.correlation(ranks(early), ranks(last)) if is_defined else None,
        concordance=found.concordance,
        pairs=found.pairs,
    )
