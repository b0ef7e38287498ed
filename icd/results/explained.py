"""Reads what the parts of a configuration are worth so far, from its study; imports no torch."""

import statistics
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from icd.results.arms import Plan, failures_of, records_of, stored_plans, values_by_arm
from icd.results.confirmation import Verdict
from icd.results.pairs import differences_by_pair
from icd.results.statistics import paired, within_one_se
from icd.search.study import Ledger

WHOLE = "whole"


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One part, left out or set to its default.

    Attributes:
        label: What was done.
        parts: How many parts the rest still has; see ``complexity``.
        mean: Of the arm, on validation images; None without runs.
        difference: Of the arm to the whole configuration, in points; below 0 where the part helps.
        low: Lower end of its 95 % bootstrap interval, for this part by itself; None where differences do not vary.
        high: Upper end.
        seeds: Shared with the whole configuration.
        p_holm: Corrected for the looks and for all parts.
        verdict: ``worse`` means that the part is needed.
        pairs: The difference on each of several pairs, in points; ``difference`` is then their mean. Corrected for
            nothing; empty where there is one pair.
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
    pairs: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """What the parts of one configuration are worth.

    Attributes:
        sweep: Its name.
        trial: The configuration that was taken apart.
        round: 1 for the first explanation of the sweep, 2 for one that was begun anew, ...
        metric: ``val/top1``.
        mean: Of the whole configuration; over several pairs, of the means of the pairs.
        sd: Sample standard deviation.
        whole_seeds: Of the whole configuration.
        parts: Of the whole configuration.
        rows: One for each part.
        simplest: The simplest arm within one standard error of the best.
        finished: Whether nothing is left to run.
        statement: The finding in plain words.
        several_pairs: Whether values are means over several pairs.
        failures: Seed and reason of runs that diverged or failed, by arm.
    """

    sweep: str
    trial: int
    round: int
    metric: str
    mean: float | None
    sd: float | None
    whole_seeds: int
    parts: int
    rows: tuple[Part, ...]
    simplest: str | None
    finished: bool
    statement: str
    several_pairs: bool = False
    failures: Mapping[str, Mapping[int, str]] = field(default_factory=dict)

    def to_data(self) -> dict[str, Any]:
        """Write it for JSON."""
        return asdict(self)

    def part(self, label: str) -> Part:
        """Give a part by its label."""
        return next(row for row in self.rows if row.label == label)


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
    decisions = plan.decided(values, len(plan.seeds), finished=finished)
    sizes = {arm.label: arm.parts or 0 for arm in plan.arms}
    rows = []
    for (label, _), item, decision in zip(plan.pairs, compared, decisions, strict=True):
        alone = paired(item, early=len(item) < len(plan.seeds)) if item else None
        rows.append(
            Part(
                label=label,
                parts=sizes[label],
                mean=_mean(values[label]),
                difference=alone.mean if alone else None,
                low=alone.low if alone else None,
                high=alone.high if alone else None,
                seeds=len(item),
                p_holm=decision.p_holm if item else None,
                verdict=decision.verdict,
                pairs=differences_by_pair(plan, records, label, WHOLE),
            )
        )
    whole = list(values[WHOLE].values())
    found = Explanation(
        sweep=ledger.name,
        trial=next(arm.trial for arm in plan.arms if arm.label == WHOLE) or 0,
        round=plan.round,
        metric=plan.objective.metric,
        mean=_mean(values[WHOLE]),
        sd=statistics.stdev(whole) if len(whole) > 1 else None,
        whole_seeds=len(whole),
        parts=sizes[WHOLE],
        rows=tuple(rows),
        simplest=_simplest(plan, values, sizes),
        finished=finished,
        statement="",
        several_pairs=any(arm.pairs for arm in plan.arms),
        failures={arm.label: own for arm in plan.arms if (own := failures_of(arm.label, records))},
    )
    return replace(found, statement=_statement(found))


def _mean(values: Mapping[int, float]) -> float | None:
    return statistics.fmean(values.values()) if values else None


def _simplest(plan: Plan, values: Mapping[str, Mapping[int, float]], parts: Mapping[str, int]) -> str | None:
    """Apply the one-standard-error rule to the arms that had their first seeds; the best is one with all of them."""
    known = {label: own for label, own in values.items() if len(own) >= plan.first}
    if not known or any(arm.parts is None for arm in plan.arms):  # a plan from before parts were counted in it
        return None
    most = max(len(own) for own in known.values())
    means = {label: statistics.fmean(own.values()) for label, own in known.items()}
    top = max((label for label in known if len(known[label]) == most), key=lambda label: (means[label], -parts[label]))
    shared = {
        label: [own[seed] - known[top][seed] for seed in own if seed in known[top]]
        for label, own in known.items()
        if label != top
    }
    paired_ones = [label for label in known if label == top or shared[label]]
    order = sorted(paired_ones, key=lambda label: (parts[label], -means[label]))
    return within_one_se(shared, order, top)


def _statement(found: Explanation) -> str:
    if found.mean is None:
        return "Nothing can be said yet: the whole configuration has no complete run."
    needed = [row for row in found.rows if row.verdict == "worse"]
    better = [row for row in found.rows if row.verdict == "better"]
    over = ", mean over the pairs" if found.several_pairs else ""
    lines = [f"Trial {found.trial} reaches {found.mean:.2f} % on validation images{over}."]
    lines += [f"It gets worse by {-(row.difference or 0):.2f} points with: {row.label}." for row in needed]
    lines += [f"It gets better by {row.difference:+.2f} points with: {row.label}." for row in better]
    rest = [row.label for row in found.rows if row.verdict not in ("worse", "better") and row.seeds]
    lines += [f"No difference was shown with: {', '.join(rest)}."] if rest else []
    lines += [
        f"{label} gave no result on seed {seed}: {reason}."
        for label, own in found.failures.items()
        for seed, reason in own.items()
    ]
    if found.simplest is not None:
        lines.append(
            "Nothing simpler is within one standard error of the best."
            if found.simplest == WHOLE
            else f"The simplest within one standard error of the best: {found.simplest}."
        )
    lines += [] if found.finished else ["This explanation is not finished."]
    return " ".join(lines)
