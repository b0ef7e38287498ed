"""Arms and their differences as lines of text, for every verb that has them."""

from collections.abc import Sequence

from icd.cli.show import columns
from icd.results.outcome import Arm, Comparison


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
    note = ["values are means over the pairs; what stands below a pair is judged by nothing"] if pairs else []
    return [*columns(heads, rows, left=["configuration", "verdict"]), *note]


def _extra(arms: Sequence[Arm]) -> dict[str, list[object]]:
    return {
        "search": [None if arm.search_value is None else f"{arm.search_value:.2f}" for arm in arms],
        "parts": [arm.parts for arm in arms],
        "mean rank": [arm.mean_rank for arm in arms],
    }
