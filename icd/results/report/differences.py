"""Arms and their differences, for a confirmation and an ablation: a forest plot and a table of five columns."""

from collections.abc import Mapping, Sequence

from icd.results.outcome import Arm, Comparison
from icd.results.report.blocks import Block, Chart, Table, Text
from icd.results.report.charts import Span, spans_chart


def difference_blocks(arms: Sequence[Arm], items: Sequence[Comparison], unit: str, alpha: float) -> list[Block]:
    """Show each difference with its interval, a dot for each seed, and its verdict."""
    known = [item for item in items if item.difference is not None]
    if not known:
        return []
    runs = {arm.label: {run.seed: run.value for run in arm.runs} for arm in arms}
    spans = [
        Span(
            name=f"{item.arm} against {item.against}",
            mean=item.difference or 0.0,
            low=item.low,
            high=item.high,
            sure=item.shown,
            dots=_dots(runs.get(item.arm, {}), runs.get(item.against, {})),
        )
        for item in known
    ]
    words = (
        f"A dot is one seed, the mark the difference, the line its interval; all intervals hold the truth together in "
        f"{1 - alpha:.0%}. A filled diamond is a shown difference: its interval leaves out 0, the dashed line."
    )
    label = "; ".join(f"{span.name} {span.mean:+.2f}" for span in spans)
    chart = Chart(title="Differences", svg=spans_chart(spans, unit, label), text=words)
    return [chart, differences_table(items), *_on_pairs(items)]


def _dots(one: Mapping[int, float], other: Mapping[int, float]) -> list[float]:
    return [value - other[seed] for seed, value in one.items() if seed in other]


def differences_table(items: Sequence[Comparison]) -> Table:
    """Give the table of five columns."""
    rows: list[list[object]] = [
        [
            f"{item.arm} against {item.against}",
            "-" if item.difference is None else f"{item.difference:+.2f}",
            item.interval or "-",
            item.verdict,
            item.seeds,
        ]
        for item in items
    ]
    return Table(
        caption="Differences", headers=["configuration", "difference", "interval", "verdict", "seeds"], rows=rows
    )


def arms_blocks(arms: Sequence[Arm], pairs: Sequence[str]) -> list[Block]:
    """Show what each arm reached, on each of several teacher-student pairs too, and the runs that failed."""
    rows: list[list[object]] = [
        [
            arm.label,
            "-" if arm.mean is None else f"{arm.mean:.2f}{'' if arm.sd is None else f' ± {arm.sd:.2f}'}",
            len(arm.runs),
            arm.parts if arm.search_value is None else f"{arm.search_value:.2f}",
            *(f"{arm.on_pairs[name]:.2f}" if name in arm.on_pairs else "-" for name in pairs),
            *([arm.mean_rank, arm.worst_rank] if pairs else []),
        ]
        for arm in arms
    ]
    fourth = "parts" if any(arm.parts is not None for arm in arms) else "search (val)"
    headers = ["configuration", "mean ± sd", "seeds", fourth, *pairs, *(["mean rank", "worst rank"] if pairs else [])]
    failures = [[arm.label, seed, reason] for arm in arms for seed, reason in arm.failures.items()]
    blocks: list[Block] = [Table(caption="Arms", headers=headers, rows=rows)]
    if failures:
        blocks.append(Table(caption="Runs that failed", headers=["configuration", "seed", "reason"], rows=failures))
    return blocks


def _on_pairs(items: Sequence[Comparison]) -> list[Block]:
    """Show the differences on each of several teacher-student pairs."""
    pairs = list(dict.fromkeys(name for item in items for name in item.on_pairs))
    if not pairs:
        return []
    rows: list[list[object]] = [
        [
            f"{item.arm} against {item.against}",
            *(f"{item.on_pairs[name]:+.2f}" if name in item.on_pairs else "-" for name in pairs),
            *_alike(item),
        ]
        for item in items
    ]
    heads = ["chance to be better", "same on all (p)"]
    words = (
        "Values above are means over the pairs, seed by seed. What stands below is judged by nothing: the difference "
        "on each pair, the chance that a run of the first is better than one of the second (mean over the pairs, 95 % "
        "bootstrap interval within pairs), and an F test of one difference on all pairs."
    )
    return [
        Text(words),
        Table(caption="Differences on each pair", headers=["configuration", *pairs, *heads], rows=rows),
    ]


def _alike(item: Comparison) -> list[str]:
    found = item.over_pairs
    if found is None:
        return ["-", "-"]
    same = "-" if found.interaction is None else f"{found.interaction:.2g}"
    return [found.chance, same]
