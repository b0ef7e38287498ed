"""Confirmations, ablations and importances as lines of text."""

from icd.results.confirmation import Arm, ArmOnPair, Confirmation, Versus, VersusOnPair
from icd.results.explained import Explanation
from icd.results.importance import Importance
from icd.text import columns


def confirmation_lines(found: Confirmation) -> list[str]:
    """Write a confirmation: arms, comparisons, and the finding in words."""
    arms = columns(["arm", "seeds", found.metric, "sd", "search"], list(map(_arm_row, found.arms)), left=["arm"])
    versus = columns(
        [
            "comparison",
            "seeds",
            "difference",
            "interval",
            "p (t)",
            "p (rank)",
            "p (corrected)",
            "verdict",
            "search said",
        ],
        list(map(_versus_row, found.versus)),
        left=["comparison", "verdict"],
    )
    note = ["values and differences above are means over the pairs, seed by seed"] if found.pairs else []
    cost = (
        f"{found.looks} looks at test images, {found.seconds / 3600:.2f} hours of training, on {found.train_on} images"
    )
    first = f"confirmation {found.round} of {found.sweep}"
    return [first, *arms, "", *versus, *note, *_pair_lines(found), "", cost, found.statement]


def _pair_lines(found: Confirmation) -> list[str]:
    """Write what each of several pairs shows by itself."""
    if not found.pairs:
        return []
    places = {arm.label: arm.mean_rank for arm in found.arms}
    means: list[list[object]] = [
        [arm.label, *(_mean_and_sd(pair.arms[place]) for pair in found.pairs), places[arm.label]]
        for place, arm in enumerate(found.arms)
    ]
    headers = ["arm", *(f"{pair.name} ({pair.looks} looks)" for pair in found.pairs), "mean rank"]
    rows: list[list[object]] = [
        [
            pair.name,
            f"{item.finalist} - {item.baseline}",
            item.seeds,
            f"{item.mean:+.2f}",
            _span(item),
            f"{item.p_t:.2g}",
        ]
        for pair in found.pairs
        for item in pair.versus
    ]
    heads = ["pair", "comparison", "seeds", "difference", "interval", "p (t), not corrected"]
    by_itself = "each pair by itself, corrected for nothing:"
    tables = [*columns(headers, means, left=["arm"]), "", *columns(heads, rows, left=["pair", "comparison"])]
    return ["", by_itself, *tables]


def _mean_and_sd(arm: ArmOnPair) -> str | None:
    if arm.mean is None:
        return None
    return f"{arm.mean:.2f}" + ("" if arm.sd is None else f" (sd {arm.sd:.2f})")


def _span(item: Versus | VersusOnPair) -> str:
    return "" if item.low is None or item.high is None else f"{item.low:+.2f} to {item.high:+.2f}"


def _arm_row(arm: Arm) -> list[object]:
    shown = [None if value is None else f"{value:.2f}" for value in (arm.mean, arm.sd, arm.search_value)]
    return [arm.label, len(arm.runs), *shown]


def _versus_row(item: Versus) -> list[object]:
    said = "" if item.search_said is None else f"{item.search_said:+.2f}"
    p_values = [f"{p:.2g}" for p in (item.p_t, item.p_wilcoxon, item.p_holm)]
    name = f"{item.finalist} - {item.baseline}"
    return [name, len(item.seeds), f"{item.mean:+.2f}", _span(item), *p_values, item.verdict, said]


def ablation_lines(found: Explanation) -> list[str]:
    """Write an ablation: the parts, the one that matters most first, and the finding in words."""
    ordered = sorted(found.rows, key=lambda row: (row.difference is None, row.difference or 0.0))
    pairs = list(dict.fromkeys(pair for row in ordered for pair in row.pairs))
    rows: list[list[object]] = []
    for row in ordered:
        interval = "" if row.low is None or row.high is None else f"{row.low:+.2f} to {row.high:+.2f}"
        numbers = [None if value is None else f"{value:.2f}" for value in (row.mean, row.difference)]
        p_value = "" if row.p_holm is None else f"{row.p_holm:.2g}"
        each = [f"{row.pairs[pair]:+.2f}" if pair in row.pairs else None for pair in pairs]
        rows.append([row.label, row.parts, row.seeds, *numbers, interval, p_value, row.verdict, *each])
    heads = ["changed", "parts", "seeds", found.metric, "difference", "interval", "p (corrected)", "verdict"]
    heads += [f"on {pair}" for pair in pairs]
    mean = "-" if found.mean is None else f"{found.mean:.2f}"
    spread = "" if found.sd is None else f" (sd {found.sd:.2f})"
    first = f"trial {found.trial} of {found.sweep}: {found.metric} {mean}{spread}, {found.parts} parts"
    note = ["values are means over the pairs; the differences on each pair are corrected for nothing"] if pairs else []
    return [first, *columns(heads, rows, left=["changed", "verdict"]), *note, "", found.statement]


def importance_lines(found: Importance) -> list[str]:
    """Write which parameters mattered in the search, each among the trials that have it."""
    if not found.groups:
        return [f"importance of parameters: not shown, {found.reason or 'no trial has parameters'}"]
    rows: list[list[object]] = []
    for group in found.groups:
        where = group.condition or "all trials"
        total = sum(row.importance or 0.0 for row in group.parameters) or 1.0
        for row in group.parameters:
            shares = [None if value is None else f"{value / total:.2f}" for value in (row.importance, row.chance)]
            clear = "not judged" if row.importance is None else "yes" if row.is_clear else "no"
            rows.append([row.name, *shares, clear, group.trials, where])
    heads = ["parameter", "share", "by chance", "clear", "trials", "where"]
    first = f"importance of parameters in the search (PED-ANOVA, {found.trials} complete trials)"
    return [first, *columns(heads, rows, left=["parameter", "clear", "where"])]
