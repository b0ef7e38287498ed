"""Walks over a search space: every option once, every point of a grid, and a table for people."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from math import prod
from typing import Any

from icd.config.sampling import (
    NETWORK_PARTS,
    Ask,
    fields_below,
    method_mapping,
    method_start,
    method_value,
    scales_of,
    trial_document,
    weighted_scales,
)
from icd.config.sweep import Branches, Choice, Interval, ScaleWeights

_MOST_CROSSED = 256  # pairs of network and scale set that are checked together; reading one takes about 0.5 ms
Params = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Dimension:
    """One parameter of a space, as ``icd plan`` shows it.

    Attributes:
        name: In Optuna.
        kind: ``choice``, ``float`` or ``integer``.
        values: Labels, or both ends with log or step.
        condition: When it is asked; empty for always.
    """

    name: str
    kind: str
    values: str
    condition: str = ""
    options: int | None = None  # labels of a choice


class _Corner(Ask):
    """Answers with what was never answered before, and notes what could be."""

    def __init__(self, forced: Params, open_values: dict[tuple[str, Any], Params], seen: set[tuple[str, Any]]) -> None:
        self.forced, self.open, self.seen = forced, open_values, seen
        self.params: Params = {}

    def category(self, name: str, labels: Sequence[str]) -> str:
        return str(self._pick(name, labels))

    def number(self, name: str, interval: Interval) -> float:
        value: float = self._pick(name, (interval.low, interval.high))
        return value

    def _pick(self, name: str, values: Sequence[Any]) -> Any:
        for value in values:
            if (name, value) not in self.seen:
                self.open.setdefault((name, value), dict(self.params))
        fresh = [value for value in values if (name, value) in self.open]
        value = self.forced.get(name, (fresh or values)[0])
        self.open.pop((name, value), None)
        self.seen.add((name, value))
        self.params[name] = value
        return value


def corners(fixed: Mapping[str, Any], space: Mapping[str, Any]) -> list[Params]:
    """Parameters in which each option and both ends of each range occur; networks meet every scale set."""
    open_values: dict[tuple[str, Any], Params] = {}
    seen: set[tuple[str, Any]] = set()
    found: list[Params] = []

    def visit(forced: Params) -> None:
        ask = _Corner(forced, open_values, seen)
        trial_document(fixed, space, ask)
        found.append(ask.params)

    visit({})
    for forced in (*_crossed(space), {}):
        while open_values:  # what the visit before has brought up
            (name, value), before = next(iter(open_values.items()))
            visit({**before, name: value})
        if not any(forced.items() <= params.items() for params in found):
            visit(forced)
    return found


def _crossed(space: Mapping[str, Any]) -> list[Params]:
    """Scale sets times networks, often wrong together while each is right, and times what decides on weights."""
    networks = [{part: label} for part in NETWORK_PARTS if part in space for label in space[part].labels]
    sets: list[Params] = []
    scales = space.get("method.scales")
    if isinstance(scales, Choice):
        sets = [{"scales": label} for label in scales.labels]
    elif "method" in space:
        for name, fields in space["method"].fields.items():
            inner = fields.get("scales")
            labels = inner.labels if isinstance(inner, Choice) else ()
            sets += [{"method": name, f"{name}.scales": label} for label in labels] or [{"method": name}]
    pairs = [{**network, **scale_set} for network, scale_set in product(networks, sets)]
    return [*(pairs if len(pairs) <= _MOST_CROSSED else []), *_weight_cases(fields_below(space, "method"), {}, "")] + [
        case
        for label, fields in (space["method"].fields.items() if "method" in space else ())
        for case in _weight_cases(fields, {"method": label}, f"{label}.")
    ]


def _weight_cases(nodes: Mapping[str, Any], before: Params, prefix: str) -> list[Params]:
    """Which weights are asked depends on scales and gram together."""
    scales, gram = nodes.get("scales"), nodes.get("gram")
    if not (
        isinstance(scales, Choice) and isinstance(gram, Choice) and isinstance(nodes.get("scale_weights"), ScaleWeights)
    ):
        return []
    pairs = product(scales.labels, gram.labels)
    return [{**before, f"{prefix}scales": label, f"{prefix}gram": other} for label, other in pairs]


class _Point(Ask):
    """Answers by position: the places given first, then the first option of everything else."""

    def __init__(self, places: Sequence[int]) -> None:
        self.places = list(places)
        self.counts: list[int] = []
        self.params: Params = {}

    def category(self, name: str, labels: Sequence[str]) -> str:
        return str(self._pick(name, labels))

    def number(self, name: str, interval: Interval) -> float:
        value: float = self._pick(name, interval.values())
        return value

    def _pick(self, name: str, values: Sequence[Any]) -> Any:
        index = len(self.counts)
        if index == len(self.places):
            self.places.append(0)
        self.counts.append(len(values))
        self.params[name] = values[self.places[index]]
        return self.params[name]


def points(fixed: Mapping[str, Any], space: Mapping[str, Any]) -> Iterator[Params]:
    """Give every point of a finite space, the last question changing fastest."""
    places: list[int] | None = []
    while places is not None:
        ask = _Point(places)
        trial_document(fixed, space, ask)
        yield ask.params
        places = _next(ask.places, ask.counts)


def _next(places: list[int], counts: list[int]) -> list[int] | None:
    for index in reversed(range(len(places))):
        if places[index] + 1 < counts[index]:
            return [*places[:index], places[index] + 1]
    return None


def size(space: Mapping[str, Any]) -> int | None:
    """Count the points of a space; None for a space with a range that has no step."""
    return _product(space.values())


def _product(nodes: Any) -> int | None:
    sizes = [_size(node) for node in nodes]
    return None if None in sizes else prod(size for size in sizes if size is not None)


def _size(node: Any) -> int | None:
    if isinstance(node, Interval):
        return len(node.values()) if node.finite else None
    if isinstance(node, ScaleWeights):
        return None
    if isinstance(node, Choice):
        return len(node.options)
    if isinstance(node, Branches):
        sizes = [_product(fields.values()) for fields in node.fields.values()]
        return None if None in sizes else sum(size for size in sizes if size is not None)
    return 1


def dimensions(fixed: Mapping[str, Any], space: Mapping[str, Any]) -> list[Dimension]:
    """List the parameters in the order in which they are asked."""
    rows = [row for part in NETWORK_PARTS if part in space for row in _rows(space[part], part, "", "")]
    if "method" in space:
        branches: Branches = space["method"]
        rows.append(_choice("method", tuple(branches.fields), ""))
        for label, fields in branches.fields.items():
            condition = f"method is {label}" if len(branches.fields) > 1 else ""
            rows += _method_rows(fields, f"{label}.", condition, method_start(label, fields))
    start = method_mapping(fixed.get("method"))
    rows += _method_rows(fields_below(space, "method"), "", "", start if isinstance(start, dict) else {})
    for name, node in fields_below(space, "protocol").items():
        rows += _rows(node, f"protocol.{name}", "protocol.", "")
    return rows + (_rows(space["seed"], "seed", "", "") if "seed" in space else [])


def _method_rows(nodes: Mapping[str, Any], prefix: str, condition: str, start: Mapping[str, Any]) -> list[Dimension]:
    rows = []
    for name, node in nodes.items():
        if not isinstance(node, ScaleWeights):
            rows += _rows(node, f"{prefix}{name}", prefix, condition)
    for name, node in nodes.items():
        if isinstance(node, ScaleWeights):
            rows += _weight_rows(name, node, nodes, prefix, condition, start)
    return rows


def _weight_rows(
    field: str, node: ScaleWeights, nodes: Mapping[str, Any], prefix: str, condition: str, start: Mapping[str, Any]
) -> list[Dimension]:
    cases = []
    for (label, scales), (_, gram) in product(_options("scales", nodes, start), _options("gram", nodes, start)):
        weighted = weighted_scales(field, scales, gram)
        cases.append((label, weighted if len(weighted) > 1 else ()))
    rows = []
    for scale in sorted({m for _, weighted in cases for m in weighted}):
        where = [label for label, weighted in cases if scale in weighted]
        own = f"{prefix}scales in {', '.join(dict.fromkeys(where))}" if len(where) < len(cases) else ""
        both = " and ".join(part for part in (condition, own) if part)
        rows += _rows(node.interval, f"{prefix}{field}.s{scale}", prefix, both)
    return rows


def _options(field: str, nodes: Mapping[str, Any], start: Mapping[str, Any]) -> list[tuple[str, Any]]:
    node = nodes.get(field)
    if isinstance(node, Choice):
        return list(zip(node.labels, node.options, strict=True))
    return [(field, scales_of(start) if field == "scales" else method_value(start, field))]


def _rows(node: Any, name: str, prefix: str, condition: str) -> list[Dimension]:
    if isinstance(node, Interval):
        more = " log" if node.log else f" step {node.step:g}" if node.step is not None else ""
        kind = "integer" if node.integer else "float"
        return [Dimension(name=name, kind=kind, values=f"{node.low:g} to {node.high:g}{more}", condition=condition)]
    if isinstance(node, Choice):
        return [_choice(name, node.labels, condition)]
    if not isinstance(node, Branches):
        return []
    rows = [_choice(name, tuple(node.fields), condition)]
    for label, fields in node.fields.items():
        own = f"{name} is {label}" if len(node.fields) > 1 else ""
        both = " and ".join(part for part in (condition, own) if part)
        for field, item in fields.items():
            rows += _rows(item, f"{prefix}{label}.{field}", f"{prefix}{label}.", both)
    return rows


def _choice(name: str, labels: tuple[str, ...], condition: str) -> Dimension:
    return Dimension(name=name, kind="choice", values=", ".join(labels), condition=condition, options=len(labels))
