"""Rows of a report's tables that take more than a template can say."""

from collections import defaultdict
from collections.abc import Sequence

from icd.config.names import shown_params
from icd.results.report.gather import Facts, label_of
from icd.results.words import flat_text
from icd.search.core.records import TrialRecord, pareto_front
from icd.search.sweep_status import pairs_of

Rows = list[list[object]]
_TOP = 5
_LISTED = 12  # numbers of trials


def best_trials(facts: Facts) -> tuple[list[str], Rows]:
    """List the best trials and the baselines, below their headers."""
    complete, rows, over = facts.complete, list[list[object]](), pairs_of(facts.complete)
    for record in [*complete[:_TOP], *(record for record in complete[_TOP:] if record.baseline)]:
        own = {name.removeprefix("method."): value for name, value in shown_params(record.params).items()}
        tried = f"{record.baseline or ''} {flat_text(own, 4) if own else ''}".strip()
        ranked = [record.rank, *map(record.members.get, over)] if over else []
        rows.append([record.number, *record.values, *ranked, record.epochs, record.attributes.get("seconds"), tried])
    return ["trial", *facts.metrics, *(["rank", *over] if over else []), "epochs", "seconds", "configuration"], rows


def front(facts: Facts) -> Rows:
    """List the trials that none beats in all objectives."""
    found = pareto_front(facts.complete, [item["direction"] for item in facts.sweep["objectives"]])
    return [[record.number, *record.values, label_of(record)] for record in found]


def failures(records: Sequence[TrialRecord]) -> Rows:
    """Group what went wrong by its reason."""
    groups: dict[tuple[str, str], list[int]] = defaultdict(list)
    for record in records:
        kind = str(record.attributes.get("exit_reason", record.state))
        if record.state == "failed" or kind == "diverged":
            groups[kind, record.reason].append(record.number)
    ordered = sorted(groups.items(), key=lambda item: -len(item[1]))
    return [
        [why, kind, len(own), ", ".join(map(str, own[:_LISTED])) + ("…" if len(own) > _LISTED else "")]
        for (kind, why), own in ordered
    ]
