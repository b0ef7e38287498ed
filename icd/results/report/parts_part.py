"""What each part of the best configuration is worth, where that was explained."""

from icd.results.explained import WHOLE, Explanation, Part
from icd.results.report.blocks import Block, Chart, Section, Table, Text
from icd.results.report.charts import Span, spans_chart
from icd.results.report.gather import Facts
from icd.results.report.words import plural


def worth(facts: Facts) -> Section | None:
    """Show what a configuration loses, or gains, without each of its parts; the one that matters most first."""
    found = facts.explanation
    if found is None:
        return None
    rows = sorted(found.rows, key=lambda row: (row.difference is None, row.difference or 0.0))
    blocks: list[Block] = [Text(found.statement, "finding"), *_chart(rows), _table(found, rows), *_pairs_table(rows)]
    words = (
        f"Trial {found.trial} was taken apart: {plural(found.parts, 'part')}, each left out or set to its default, one "
        f"at a time, on fresh seeds that all share. Values are {found.metric} after the last epoch; students were "
        "trained on the training images, and test images stayed closed. Differences are to the whole configuration, "
        "below 0 where the part helps, with p-values after correction for the looks and for all parts (Holm)."
    )
    return Section("What each part is worth", [*blocks, Text(words)])


def _chart(rows: list[Part]) -> list[Block]:
    spans = [
        Span(name=row.label, mean=row.difference, low=row.low, high=row.high, sure=row.verdict in ("better", "worse"))
        for row in rows
        if row.difference is not None and row.low is not None and row.high is not None
    ]
    if not spans:
        return []
    words = (
        "Difference to the whole configuration with its interval. Filled diamonds are settled after Holm's correction; "
        "the dashed line is no difference."
    )
    label = "; ".join(f"{span.name} {span.mean:+.2f} [{span.low:+.2f}, {span.high:+.2f}]" for span in spans)
    svg = spans_chart(spans, "points of validation top-1", label)
    return [Chart(title="Without one part", svg=svg, text=words)]


def _table(found: Explanation, rows: list[Part]) -> Table:
    headers = ["changed", "parts", "mean", "difference", "interval", "n", "p (Holm)", "verdict"]
    simplest = " (simplest within one standard error)"
    cells: list[list[object]] = [
        [
            WHOLE + (simplest if found.simplest == WHOLE else ""),
            found.parts,
            found.mean,
            None,
            None,
            found.whole_seeds,
            None,
            None,
        ]
    ]
    for row in rows:
        interval = None if row.low is None or row.high is None else f"{row.low:+.2f} to {row.high:+.2f}"
        difference = None if row.difference is None else f"{row.difference:+.2f}"
        label = row.label + (simplest if found.simplest == row.label else "")
        cells.append([label, row.parts, row.mean, difference, interval, row.seeds, row.p_holm, row.verdict])
    return Table(caption="Parts", headers=headers, rows=cells)


def _pairs_table(rows: list[Part]) -> list[Block]:
    """Show the differences on each of several pairs."""
    pairs = list(dict.fromkeys(pair for row in rows for pair in row.pairs))
    if not pairs:
        return []
    cells: list[list[object]] = [
        [row.label, *(f"{row.pairs[pair]:+.2f}" if pair in row.pairs else None for pair in pairs)] for row in rows
    ]
    words = Text(
        "Values above are means over the pairs, seed by seed. The differences below are corrected for nothing."
    )
    return [words, Table(caption="Differences on each pair", headers=["changed", *pairs], rows=cells)]
