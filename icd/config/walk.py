"""Walks over a search space: every option once, every point of a grid, and a table for people."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import product
from math import prod
from typing import Any

from icd.config.document import KeyPath, dotted
from icd.config.ranges import Choice, Interval, ScaleWeights
from icd.config.space import (
    asked_order,
    cases,
    fixed_part,
    methods_of,
    nodes_below,
    trial_document,
    weighted_scales,
)

_MOST_CROSSED = 256  # combinations of networks and scale sets that are tried; reading one takes about 0.5 ms
Params = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Dimension:
    """One parameter of a space, as ``icd plan`` shows it.

    Attributes:
        name: Path of the value in the trial's document.
        kind: ``choice``, ``float`` or ``integer``.
        values: Labels, or both ends with log or step.
        condition: When it is asked; empty for always.
        options: Labels of a choice.
    """

    name: str
    kind: str
    values: str
    condition: str = ""
    options: int | None = None


class _Corner:
    """Answers with what was never answered before, and notes what could be."""

    def __init__(self, forced: Params, open_values: dict[tuple[str, Any], Params], seen: set[tuple[str, Any]]) -> None:
        self.forced, self.open, self.seen = forced, open_values, seen
        self.params: Params = {}

    def __call__(self, name: str, node: Choice | Interval) -> Any:
        values = node.labels if isinstance(node, Choice) else (node.low, node.high)
        for value in values:
            if (name, value) not in self.seen:
                self.open.setdefault((name, value), dict(self.params))
        fresh = [value for value in values if (name, value) in self.open]
        value = self.forced.get(name, (fresh or values)[0])
        value = value if value in values else values[0]
        self.open.pop((name, value), None)
        self.seen.add((name, value))
        self.params[name] = value
        return value


def corners(template: Mapping[str, Any]) -> list[Params]:
    """Parameters in which each option and both ends of each range occur; networks meet every scale set."""
    open_values: dict[tuple[str, Any], Params] = {}
    seen: set[tuple[str, Any]] = set()
    found: list[Params] = []

    def visit(forced: Params) -> None:
        ask = _Corner(forced, open_values, seen)
        trial_document(template, ask)
        found.append(ask.params)

    visit({})
    for forced in (*_crossed(template), {}):
        while open_values:  # what the visit before has brought up
            (name, value), before = next(iter(open_values.items()))
            del open_values[name, value]
            seen.add((name, value))  # even where it is not reached: two options may differ in what they ask
            visit({**before, name: value})
        if not any(forced.items() <= params.items() for params in found):
            visit(forced)
    return found


def _crossed(template: Mapping[str, Any]) -> list[Params]:
    """Methods and scale sets times networks, often wrong together while each is right."""
    networks = [
        {dotted(path): label}
        for part in ("pair", "teacher", "student")
        for path, node in nodes_below(template.get(part), (part,))
        if isinstance(node, Choice)
        for label in node.labels
    ]
    sets: list[Params] = []
    for chosen, method in methods_of(template):
        for answers, _, _ in cases(method):
            sets.append({"method": chosen} if chosen else {})
            sets[-1] |= {f"method.{name}": label for name, label in answers.items()}
    sets = [one for one in sets if one]
    pairs = [{**network, **one} for network, one in product(networks, sets)]
    return [*(pairs if len(pairs) <= _MOST_CROSSED else []), *(sets if len(sets) <= _MOST_CROSSED else [])]


class _Point:
    """Answers by position: the places given first, then the first option of everything else."""

    def __init__(self, places: Sequence[int]) -> None:
        self.places = list(places)
        self.counts: list[int] = []
        self.params: Params = {}

    def __call__(self, name: str, node: Choice | Interval) -> Any:
        values = node.labels if isinstance(node, Choice) else node.values()
        index = len(self.counts)
        if index == len(self.places):
            self.places.append(0)
        self.counts.append(len(values))
        self.params[name] = values[self.places[index]]
        return self.params[name]


def points(template: Mapping[str, Any]) -> Iterator[Params]:
    """Give every point of a finite space, the last question changing fastest."""
    places: list[int] | None = []
    while places is not None:
        ask = _Point(places)
        trial_document(template, ask)
        yield ask.params
        places = _next(ask.places, ask.counts)


def _next(places: list[int], counts: list[int]) -> list[int] | None:
    for index in reversed(range(len(places))):
        if places[index] + 1 < counts[index]:
            return [*places[:index], places[index] + 1]
    return None


def size(template: Any) -> int | None:
    """Count the points of a space; None for a space with a range that has no step."""
    if isinstance(template, Interval):
        return len(template.values()) if template.finite else None
    if isinstance(template, ScaleWeights):
        return None
    if isinstance(template, Choice | Mapping | list):
        inner = template.options if isinstance(template, Choice) else template
        sizes = [size(item) for item in (inner.values() if isinstance(inner, Mapping) else inner)]
        known = [number for number in sizes if number is not None]
        if len(known) < len(sizes):
            return None
        return sum(known) if isinstance(template, Choice) else prod(known)
    return 1


def dimensions(template: Mapping[str, Any]) -> list[Dimension]:
    """List the parameters in the order in which they are asked."""
    found: dict[str, Dimension] = {}
    for row in _rows(template, (), ""):
        if (known := found.get(row.name)) is None:
            found[row.name] = row
        elif known.condition and row.condition != known.condition:  # two options have the same parameter
            found[row.name] = replace(known, condition=f"{known.condition} or {row.condition}")
    return list(found.values())


def summary(template: Mapping[str, Any]) -> dict[str, Any]:
    """Say as plain data what is searched and what is fixed, for readers that have no torch."""
    return {"searched": [asdict(row) for row in dimensions(template)], "fixed": fixed_part(template) or {}}


def _rows(node: Any, path: KeyPath, condition: str) -> Iterator[Dimension]:
    name = dotted(path)
    if isinstance(node, Interval):
        more = " log" if node.log else f" step {node.step:g}" if node.step is not None else ""
        kind = "integer" if node.integer else "float"
        yield Dimension(name=name, kind=kind, values=f"{node.low:g} to {node.high:g}{more}", condition=condition)
    elif isinstance(node, Choice):
        labels = node.labels
        values = ", ".join(labels)
        yield Dimension(name=name, kind="choice", values=values, condition=condition, options=len(labels))
        for label, option in zip(labels, node.options, strict=True):
            yield from _rows(option, path, _both(condition, f"{name} is {label}" if len(labels) > 1 else ""))
    elif isinstance(node, Mapping):
        for key in asked_order(node):
            if isinstance(node[key], ScaleWeights):
                yield from _weight_rows(key, node, path, condition)
            else:
                yield from _rows(node[key], (*path, key), condition)
    elif isinstance(node, list):
        for index, item in enumerate(node):
            yield from _rows(item, (*path, index), condition)


def _weight_rows(name: str, method: Mapping[str, Any], path: KeyPath, condition: str) -> Iterator[Dimension]:
    known = [(answers, weighted_scales(name, scales, gram)) for answers, scales, gram in cases(method)]
    asked = [(answers, weighted if len(weighted) > 1 else ()) for answers, weighted in known]
    for scale in sorted({m for _, weighted in asked for m in weighted}):
        where = [answers for answers, weighted in asked if scale in weighted]
        own = ""
        if len(where) < len(asked):
            parts = [{part: answers[part] for part in answers} for answers in where]
            labels = dict.fromkeys(" ".join(part.values()) for part in parts)
            own = f"{dotted((*path, next(iter(where[0]), 'scales')))} in {', '.join(labels)}"
        yield from _rows(method[name].interval, (*path, name, f"s{scale}"), _both(condition, own))


def _both(*conditions: str) -> str:
    return " and ".join(condition for condition in conditions if condition)
