"""What the trials look like beside each other: learning curves, importance, parallel coordinates, cost."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from icd.results.importance import FEWEST, Group
from icd.results.report.blocks import Block, Chart, Section, Table, Text
from icd.results.report.charts import Axis, Bar, Dot, Series, bars_chart, lines_chart, parallel_chart, scatter_chart
from icd.results.report.gather import Facts, label_of
from icd.results.report.words import plural
from icd.search.pareto import pareto_front
from icd.search.record import TrialRecord

_DISTINCT = 5  # curves that can be told apart
_NEAR = 30  # best trials that are all drawn
_FAR = 120  # of the others
_MOST_ROWS = 50  # of a table behind a chart
_WEIGHT = "method.cluster_scale_weights."
_LOG = ("temperature", "cluster_weight")


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


def parallel(facts: Facts) -> Section | None:
    """Draw scale weights and temperatures, as they were trained, against the result."""
    chosen = [record for record in facts.complete if record.number in facts.configs]
    values = {record.number: _method_values(facts.configs[record.number]) for record in chosen}
    _fill_weights(values.values())
    names = sorted({name for row in values.values() for name in row}, key=_axis_order)
    varied = [name for name in names if len({row[name] for row in values.values() if name in row}) > 1]
    if len(chosen) < 2 or not varied:
        return None
    metric = facts.metrics[0]
    axes = [Axis(name=name, log=_is_log(name, values.values())) for name in varied] + [Axis(name=metric)]
    rows = [{**values[record.number], metric: record.values[0]} for record in chosen]
    labels = [f"{label_of(record)}: {record.values[0]:.4g}" for record in chosen]
    what = f"Scale weights, temperatures and {metric} of {plural(len(chosen), 'complete trial')}"
    svg = parallel_chart(axes, rows, labels, what, maximize=facts.maximize)
    cut = len(facts.complete) - len(chosen)
    words = (
        f"{what}{f', the best of {len(facts.complete)}' if cut > 0 else ''}. Each line is a trial, from top to bottom; "
        "the best three stand out. Weights are those that were trained with (normalised, 0 for a scale without one). "
        "A line ends where a trial does not have the parameter."
    )
    cells = [[record.number, *(row.get(axis.name) for axis in axes)] for record, row in zip(chosen, rows, strict=True)]
    table = Table(
        caption=_cut("Values", chosen), headers=["trial", *(axis.name for axis in axes)], rows=cells[:_MOST_ROWS]
    )
    return Section(
        "Scale weights and temperatures", [Chart(title="Parallel coordinates", svg=svg, text=words, table=table)]
    )


def _method_values(config: Mapping[str, Any]) -> dict[str, float]:
    """Give a trial's weights by scale, its temperatures and its cluster weight."""
    method = config.get("method", {})
    found: dict[str, float] = {}
    weights = method.get("cluster_scale_weights") or {}
    if method.get("cluster_weight") and weights:
        found |= {f"{_WEIGHT}{scale}": float(weight) for scale, weight in weights.items()}
        known = [name for name in ("cluster_weight", "cluster_temperature") if method.get(name)]
        found |= {f"method.{name}": float(method[name]) for name in known}
    base = method.get("base_loss")
    for loss, fields in base.items() if isinstance(base, Mapping) else ():
        known = [name for name in fields or {} if "temperature" in name and fields[name] is not None]
        found |= {f"method.base_loss.{loss}.{name}": float(fields[name]) for name in known}
    return found


def _fill_weights(rows: Iterable[dict[str, float]]) -> None:
    """Give a scale that a trial with a cluster term does not have the weight 0."""
    rows = list(rows)
    names = {name for row in rows for name in row if name.startswith(_WEIGHT)}
    for row in rows:
        if names & row.keys():
            row.update(dict.fromkeys(names - row.keys(), 0.0))


def _axis_order(name: str) -> tuple[int, str]:
    return 0 if name.startswith(_WEIGHT) else 2 if "temperature" in name else 1, name


def _is_log(name: str, rows: Any) -> bool:
    values = [row[name] for row in rows if name in row]
    return any(word in name for word in _LOG) and min(values) > 0 and max(values) > 4 * min(values)


def accuracy_against_cost(facts: Facts) -> Section | None:
    """Draw what accuracy costs, with the trials that none beats in both."""
    places = [place for place, metric in enumerate(facts.metrics) if not metric.startswith("cost/")]
    if len(facts.complete) < 2 or not places:
        return None
    blocks: list[Block] = []
    for key, name in (("seconds", "training seconds"), ("parameters", "weights of the student")):
        known = [record for record in facts.complete if isinstance(record.attributes.get(key), int | float)]
        if len({record.attributes[key] for record in known}) > 1:
            costs = {record.number: float(record.attributes[key]) for record in known}
            blocks.append(_front(facts, known, costs, places[0], name))
    for place in places[1:]:
        costs = {record.number: record.values[place] for record in facts.complete}
        blocks.append(_front(facts, facts.complete, costs, places[0], facts.metrics[place], facts.directions[place]))
    if not blocks:
        return None
    words = "Seconds are those of the machine at hand; trials that shared it with others took longer."
    return Section("Accuracy against cost", [*blocks, Text(words, "note")])


def _front(
    facts: Facts,
    records: Sequence[TrialRecord],
    costs: Mapping[int, float],
    place: int,
    name: str,
    way: Any = "minimize",
) -> Chart:
    metric = facts.metrics[place]
    pairs = [replace(record, values=(record.values[place], costs[record.number])) for record in records]
    front = pareto_front(pairs, [facts.directions[place], way])
    best = {record.number for record in front}
    dots = [
        Dot(
            name=f"{label_of(record)}: {record.values[0]:.4g}, {record.values[1]:.4g}",
            x=record.values[1],
            y=record.values[0],
            role="front" if record.number in best else "baseline" if record.baseline else "trial",
        )
        for record in pairs
    ]
    label = f"{metric} against {name} of {plural(len(dots), 'trial')}; on the front: " + ", ".join(
        str(record.number) for record in front[:20]
    )
    low = min(dot.x for dot in dots)
    svg = scatter_chart(dots, name, metric, label, log_x=low > 0 and max(dot.x for dot in dots) > 20 * low)
    rows = [[record.number, record.values[0], record.values[1], label_of(record)] for record in front[:_MOST_ROWS]]
    words = f"No other trial beats the {plural(len(front), 'trial')} on the front in both {metric} and {name}."
    table = Table(caption="The front", headers=["trial", metric, name, "what"], rows=rows)
    return Chart(title=f"{metric} and {name}", svg=svg, text=words, table=table)
