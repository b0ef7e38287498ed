"""The trials that no other trial beats in every objective."""

from collections.abc import Sequence

from icd.config.sweep import Direction
from icd.search.core.records import TrialRecord


def pareto_front(records: Sequence[TrialRecord], directions: Sequence[Direction]) -> list[TrialRecord]:
    """Give the complete trials that are not dominated, best first objective first.

    A trial dominates another if it is at least as good in every objective and better in one; of equal trials all stay.
    """
    complete = [record for record in records if record.state == "complete"]
    signs = [1.0 if direction == "maximize" else -1.0 for direction in directions]
    scores = {record.number: [s * v for s, v in zip(signs, record.values, strict=True)] for record in complete}

    def dominates(one: TrialRecord, other: TrialRecord) -> bool:
        ours, theirs = scores[one.number], scores[other.number]
        return ours != theirs and all(a >= b for a, b in zip(ours, theirs, strict=True))

    front = [record for record in complete if not any(dominates(other, record) for other in complete)]
    return sorted(front, key=lambda record: (-scores[record.number][0], record.number))
