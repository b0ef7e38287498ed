"""Confirmations, ablations, arms, their differences and importances as lines of text."""

from collections.abc import Sequence

from icd.results.importance import Importance
from icd.results.outcome import Arm, Comparison, Outcome
from icd.text import columns


def outcome_lines(found: Outcome) -> list[str]:
    """Write a confirmation or an ablation: arms, comparisons, cost, and the finding in words."""
    first = f"confirmation {found.round} of {found.sweep}"
    if found.stage == "ablate":
        whole = found.whole
        mean = "-" if whole.mean is None else f"{whole.mean:.2f}"
        spread = "" if whole.sd is None else f" (sd {whole.sd:.2f})"
        first = f"trial {found.trial} of {found.sweep}: {found.metric} {mean}{spread}, {whole.parts} parts"
    hours = f"{found.seconds / 3600:.2f} hours of training"
    cost = f"{found.test_evaluations} test evaluations, {hours}, on {found.train_on} images"
    tables = [*arm_lines(found.arms, found.metric), "", *comparison_lines(found.ordered)]
    return [first, *tables, "", cost, found.statement]


def arm_lines(arms: Sequence[Arm], metric: str) -> list[str]:
    """Write what each arm reached, and on each of several teacher-student pairs."""
    pairs = list(dict.fromkeys(name for arm in arms for name in arm.on_pairs))
    extra = [name for name, values in _extra(arms).items() if any(value is not None for value in values)]
    rows: list[list[object]] = []
    for place, arm in enumerate(arms):
        numbers = [None if value is None else f"{value:.2f}" for value in (arm.mean, arm.sd)]
        each = [f"{arm.on_pairs[name]:.2f}" if name in arm.on_pairs else None for name in pairs]
        rows.append([arm.label, len(arm.runs), *numbers, *(_extra(arms)[name][place] for name in extra), *each])
    return columns(["arm", "seeds", metric, "sd", *extra, *(f"on {name}" for name in pairs)], rows, left=["arm"])


def comparison_lines(items: Sequence[Comparison]) -> list[str]:
    """Write differences with their intervals and verdicts, and those on each of several teacher-student pairs."""
    pairs = list(dict.fromkeys(name for item in items for name in item.on_pairs))
    rows: list[list[object]] = [
        [
            f"{item.arm} - {item.against}",
            None if item.difference is None else f"{item.difference:+.2f}",
            item.interval,
            "" if item.p is None else f"{item.p:.2g}",
            item.verdict,
            item.seeds,
            *(f"{item.on_pairs[name]:+.2f}" if name in item.on_pairs else None for name in pairs),
        ]
        for item in items
    ]
    heads = ["configuration", "difference", "interval", "p", "verdict", "seeds", *(f"on {name}" for name in pairs)]
    note = ["values are means over the pairs; the numbers below a pair have no verdict"] if pairs else []
    return [*columns(heads, rows, left=["configuration", "verdict"]), *note]


def _extra(arms: Sequence[Arm]) -> dict[str, list[object]]:
    return {
        "search": [None if arm.search_value is None else f"{arm.search_value:.2f}" for arm in arms],
        "parts": [arm.parts for arm in arms],
        "mean rank": [arm.mean_rank for arm in arms],
    }


def importance_lines(found: Importance) -> list[str]:
    """Write which parameters mattered in the search, each among the trials that have it."""
    if found.reason:
        return [f"importance of parameters: not judged, {found.reason}"]
    rows: list[list[object]] = [
        [
            row.name,
            None if row.share is None else f"{row.share:.0%}",
            None if row.p is None else f"{row.p:.2g}",
            "not judged" if row.p is None else "yes" if row.passes else "no",
            row.trials,
            row.condition or "all trials",
        ]
        for row in found.parameters
    ]
    first = f"importance of parameters in the search (share of the ranks of {found.trials} complete trials)"
    return [
        first,
        *columns(["parameter", "share", "p", "clear", "trials", "where"], rows, left=["parameter", "clear", "where"]),
    ]
