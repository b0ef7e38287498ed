"""What the trials look like beside each other: learning curves, importance, the front of several objectives."""

from collections.abc import Sequence

from icd.results.importance import FEWEST, Group
from icd.results.report.blocks import Block, Chart, Section, Table, Text
from icd.results.report.charts import Bar, Series, bars_chart, lines_chart
from icd.results.report.gather import Facts, label_of
from icd.results.report.words import plural
from icd.search.core.pareto import pareto_front
from icd.search.core.records import TrialRecord

_DISTINCT = 5  # curves that can be told apart
_NEAR = 30  # best trials that are all drawn
_FAR = 120  # of the others
_MOST_ROWS = 50  # of a table behind a chart


def learning_curves(facts: Facts) -> Section | None:
    """Draw the first objective's metric over the epochs."""
    sign = -1.0 if facts.maximize else 1.0
    seen = [record for record in facts.records if record.curve]
    if not seen:
        return None
    complete = [record for record in facts.complete if record.curve]
    done = {record.number for record in complete}
    rest = [record for record in seen if record.number not in done]
    rest.sort(key=lambda record: (-max(record.curve), sign * record.curve[max(record.curve)], record.number))
    order = [*complete, *rest]
    others = order[_NEAR:]
    sampled = others[:: -(-len(others) // _FAR)] if others else []
    series = [_curve(record, str(place)) for place, record in enumerate(order[:_DISTINCT])]
    series += [_curve(record, "near") for record in order[_DISTINCT:_NEAR]] + [
        _curve(record, "far") for record in sampled
    ]
    words = f"{facts.curve_metric} after each epoch. Named are the best {min(_DISTINCT, len(order))}"
    words += f" of {len(order)} trials" if len(order) > _DISTINCT else ""
    if len(others) > len(sampled):
        words += f"; the best {_NEAR} are all drawn, and {len(sampled)} of the other {len(others)} as a sample"
    label = f"Learning curves of {plural(len(series), 'trial')}; best: {label_of(order[0])}"
    svg = lines_chart(series, "epoch", facts.curve_metric, label)
    rows = [[r.number, r.state, max(r.curve), r.curve[max(r.curve)], label_of(r)] for r in order[:_MOST_ROWS]]
    table = Table(caption=_cut("Last values", order), headers=["trial", "state", "epochs", "last", "what"], rows=rows)
    return Section(
        "Learning curves",
        [Chart(title=f"{facts.curve_metric} over the epochs", svg=svg, text=f"{words}.", table=table)],
    )


def _curve(record: TrialRecord, role: str) -> Series:
    points = sorted((float(epoch), value) for epoch, value in record.curve.items())
    return Series(name=f"{label_of(record)}: {points[-1][1]:.4g}", points=points, role=role)


def _cut(caption: str, rows: Sequence[object]) -> str:
    return f"{caption} of the best {_MOST_ROWS}" if len(rows) > _MOST_ROWS else caption


def importance(facts: Facts) -> Section:
    """Show what PED-ANOVA says, each parameter among the trials that have it."""
    found = facts.importance
    if not found.groups:
        return Section("Importance", [Text(f"Not shown: {found.reason or 'no trial has parameters'}.")])
    words = (
        f"PED-ANOVA over {plural(found.trials, 'complete trial')} by {facts.metrics[0]}: how differently a parameter "
        "is spread among the best trials and among all. A parameter that only some branches have is judged among the "
        "trials that have it. Bars are shares within their group; the mark says what chance alone reaches in one case "
        "out of twenty, and only filled bars pass it. A short bar does not show that a parameter does not matter."
    )
    return Section("Importance", [Text(words), *(_group(group) for group in found.groups)])


def _group(group: Group) -> Block:
    title = f"Where {group.condition}" if group.condition else "All trials"
    told = [row for row in group.parameters if row.importance is not None]
    if not told:
        names = ", ".join(row.name for row in group.parameters)
        few = "too few to judge" if group.trials < FEWEST else "all of them are equally good"
        return Text(f"{title}: {names}: not judged, {plural(group.trials, 'trial')}, {few}.")
    total = sum(row.importance or 0.0 for row in told) or 1.0
    bars = [
        Bar(
            name=row.name,
            value=(row.importance or 0.0) / total,
            chance=None if row.chance is None else row.chance / total,
            clear=row.is_clear,
        )
        for row in told
    ]
    clear = [bar.name for bar in bars if bar.clear]
    verdict = f"Clear of chance: {', '.join(clear)}." if clear else "Nothing is clear of chance."
    words = f"{plural(group.trials, 'trial')}, the best {group.best} of them against all. {verdict}"
    rows: list[list[object]] = [[bar.name, bar.value, bar.chance, "yes" if bar.clear else "no"] for bar in bars]
    table = Table(caption="Shares", headers=["parameter", "share", "by chance", "clear"], rows=rows)
    label = f"Importance, {title}: " + ", ".join(f"{bar.name} {bar.value:.0%}" for bar in bars)
    return Chart(title=title, svg=bars_chart(bars, label), text=words, table=table)


def front(facts: Facts) -> Section | None:
    """List the trials that none beats in all objectives, where there are several."""
    if len(facts.metrics) < 2 or not facts.complete:
        return None
    found = pareto_front(facts.complete, facts.directions)
    rows = [[record.number, *record.values, label_of(record)] for record in found[:_MOST_ROWS]]
    words = f"No other trial beats one of these {plural(len(found), 'trial')} in {' and '.join(facts.metrics)}."
    table = Table(caption="The front", headers=["trial", *facts.metrics, "what"], rows=rows)
    return Section("Accuracy against cost", [Text(words), table])
