"""What pruning cost and saved, judged by the trials that were never stopped."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from icd.search.core.records import TrialRecord
from icd.search.foresight import RungConcordance, concordance, rungs


@dataclass(frozen=True, slots=True, kw_only=True)
class PruningAudit:
    """What pruning did to a sweep.

    Attributes:
        rungs: What each foretold of the last epoch. Trials that survived pruning there are a choice with less spread,
            so this errs downwards (restriction of range; Thorndike, Personnel Selection, 1949, chapter 5).
    """

    rungs: tuple[RungConcordance, ...]
    controls: int  # complete trials that pruning could not stop
    would_stop: int  # of those, how many the pruner wanted to stop
    good_ones: int  # of these, how many ended among the best quarter of all complete trials
    false_kill_rate: float | None  # ``good_ones / would_stop``; None where nothing would have been stopped
    pruned: int  # trials that were stopped
    epochs_saved: int  # that they did not train
    saved_share: float  # part of the epochs that all of them and the complete trials would have taken


def audit_sweep(sweep: Mapping[str, Any], records: Sequence[TrialRecord]) -> PruningAudit | None:
    """Judge the pruning of a sweep, by all trials of its search; None without a pruner or before one is complete."""
    complete = [record for record in records if record.state == "complete" and record.curve]
    pruner = sweep["pruner"]
    compares = pruner["name"] != "none"  # else nobody compares trials at rungs
    if not complete or not (compares or pruner.get("dead_terms", False)):
        return None
    epochs = max(record.epochs for record in complete)
    sign = 1.0 if sweep["objectives"][0]["direction"] == "maximize" else -1.0
    finals = {record.number: sign * record.values[0] for record in complete}
    best_quarter = sorted(finals.values(), reverse=True)[: math.ceil(len(finals) / 4)]
    would_stop = [record for record in complete if record.control and record.would_stop_at is not None]
    good_ones = sum(finals[record.number] >= best_quarter[-1] for record in would_stop)
    # Diverged trials are told as pruned too, but pruning did not stop them.
    pruned = [r for r in records if r.state == "pruned" and r.attributes.get("exit_reason", "pruned") == "pruned"]
    planned = sum(max(record.epochs, record.attributes.get("planned_epochs", epochs)) for record in pruned)
    saved = planned - sum(record.epochs for record in pruned)
    places = rungs(pruner["min_epochs"], pruner["reduction"], epochs) if compares else []
    return PruningAudit(
        rungs=tuple(concordance([record.curve for record in complete], rung) for rung in places),
        controls=sum(record.control for record in complete),
        would_stop=len(would_stop),
        good_ones=good_ones,
        false_kill_rate=good_ones / len(would_stop) if would_stop else None,
        pruned=len(pruned),
        epochs_saved=saved,
        saved_share=saved / (planned + sum(record.epochs for record in complete)),
    )
