"""What the trials look like beside each other: curves, history, parameters, the front of several objectives."""

from collections.abc import Sequence

from icd.results.report.blocks import Block, Chart, Section, Table, Text
from icd.results.report.charts import Series, bars_chart, lines_chart, slice_chart
from icd.results.report.gather import Facts, label_of
from icd.results.report.words import flat_text, measured, plural
from icd.search.core.pareto import pareto_front
from icd.search.core.records import TrialRecord

_DISTINCT = 5  # curves that can be told apart
_NEAR = 30  # best trials that are all drawn
_FAR = 120  # of the others
_FEWEST_SLICED, _MOST_SLICES = 3, 6  # trials, parameters
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
    curves = Chart(title=f"{facts.curve_metric} over the epochs", svg=svg, text=f"{words}.", table=table)
    past = history(facts)
    return Section("Learning curves", [curves, *([past] if past else [])], "three")


def _curve(record: TrialRecord, role: str) -> Series:
    points = sorted((float(epoch), value) for epoch, value in record.curve.items())
    return Series(name=f"{label_of(record)}: {points[-1][1]:.4g}", points=points, role=role)


def _cut(caption: str, rows: Sequence[object]) -> str:
    return f"{caption} of the best {_MOST_ROWS}" if len(rows) > _MOST_ROWS else caption


def slices(facts: Facts) -> Section | None:
    """Draw the first objective against each parameter, the clearest first."""
    complete = [record for record in facts.complete if record.params]
    if len(complete) < _FEWEST_SLICED:
        return None
    names = dict.fromkeys([row.name for row in facts.importance.parameters if row.passes])
    names |= dict.fromkeys(name for record in complete for name in record.params)
    metric, charts = facts.metrics[0], []
    for name in list(names)[:_MOST_SLICES]:
        own = [record for record in complete if name in record.params]
        points = [(record.params[name], record.values[0]) for record in own]
        label = f"{metric} against {name} of {plural(len(own), 'complete trial')}; best: {flat_text(points[0][0])}"
        svg = slice_chart(points, 0, name, metric, label)
        charts.append(Chart(title=name.removeprefix("method."), svg=svg, text=""))
    more = f" {len(names) - _MOST_SLICES} more are in the study." if len(names) > _MOST_SLICES else ""
    words = f"A dot is a complete trial that has the parameter, one seed; the diamond is the best of them.{more}"
    return Section("Parameters", [Text(words), *_importance(facts), *charts], "three")


def _importance(facts: Facts) -> list[Block]:
    """Show the parameters that pass; nothing where none does."""
    found = facts.importance
    if found.reason:
        return [Text(f"Importance is not judged: {found.reason}.", "note")]
    clear = {
        f"{row.name}{f' ({row.condition})' if row.condition else ''}": row.share or 0.0
        for row in found.parameters
        if row.passes
    }
    if not clear:
        return [Text(f"Importance: no parameter passes, {plural(found.trials, 'complete trial')}.", "note")]
    label = "Importance: " + ", ".join(f"{name} {share:.0%}" for name, share in clear.items())
    words = (
        "Share of the trials' ranks that a parameter explains by itself. Shown are those that pass: in a search "
        "without effects, any would in one of twenty. One that is not shown may matter too."
    )
    return [Chart(title="Importance", svg=bars_chart(clear, label), text=words)]


def history(facts: Facts) -> Chart | None:
    """Draw each complete trial's value by its number, and the best so far."""
    done = sorted(facts.complete, key=lambda record: record.number)
    if len(done) < _FEWEST_SLICED or any(record.rank is not None for record in done):
        return None
    choose, best, steps = (max if facts.maximize else min), done[0].values[0], []
    for record in done:
        best = choose(best, record.values[0])
        steps.append((float(record.number), best))
    points = [(float(record.number), record.values[0]) for record in done]
    series = [
        Series(name="one trial", points=points, role="dots"),
        Series(name=f"best so far: {measured(facts.metrics[0], best)}", points=steps, role="0"),
    ]
    last = next(number for number, value in steps if value == best)
    label = f"Best so far over the trials; last gain at trial {last:.0f}"
    words = f"A dot is one complete trial; the line is the best so far. The last gain came with trial {last:.0f}."
    return Chart(title="History", svg=lines_chart(series, "trial", facts.metrics[0], label), text=words)


def front(facts: Facts) -> Section | None:
    """List the trials that none beats in all objectives, where there are several."""
    if len(facts.metrics) < 2 or not facts.complete:
        return None
    found = pareto_front(facts.complete, facts.directions)
    rows = [[record.number, *record.values, label_of(record)] for record in found[:_MOST_ROWS]]
    words = f"No other trial beats one of these {plural(len(found), 'trial')} in {' and '.join(facts.metrics)}."
    table = Table(caption="The front", headers=["trial", *facts.metrics, "what"], rows=rows)
    return Section("Accuracy against cost", [Text(words), table])
