"""From a search space and answers to a trial's plain document; whoever answers is somebody else's business.

The answers may come from an Optuna trial, from stored parameters, or from a walk over all options (coverage.py). All of
them meet the same questions in the same order, so that stored parameters always give the document they were asked for.
"""

import copy
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from icd.config.sweep import Branches, Choice, Interval, ScaleWeights
from icd.errors import ConfigError, Problem
from icd.methods import METHODS, PAPER_ROWS, CellDistillation

NETWORK_PARTS = ("pair", "teacher", "student")
_DIGITS = 12  # as the method keeps them, so that a common factor of the raw weights leaves no trace


class Ask(Protocol):
    """Answers the questions of a space."""

    def category(self, name: str, labels: Sequence[str]) -> str:
        """Choose one of the labels."""
        ...

    def number(self, name: str, interval: Interval) -> float:
        """Choose a number of the interval."""
        ...


class Stored:
    """Answers from the parameters of an earlier trial."""

    def __init__(self, params: Mapping[str, Any]) -> None:
        self.params = params

    def category(self, name: str, labels: Sequence[str]) -> str:
        value = self._value(name)
        if value not in labels:
            listed = ", ".join(labels)
            raise ConfigError(Problem(path=name, rule=f"must be one of {listed}", value=value, has_value=True))
        return str(value)

    def number(self, name: str, interval: Interval) -> float:
        value = self._value(name)
        if isinstance(value, bool) or not isinstance(value, int | float) or not interval.low <= value <= interval.high:
            rule = f"must be a number with {interval.low:g} <= {name} <= {interval.high:g}"
            raise ConfigError(Problem(path=name, rule=rule, value=value, has_value=True))
        return value

    def _value(self, name: str) -> Any:
        if name not in self.params:
            raise ConfigError(Problem(path=name, rule="this parameter of the space is missing"))
        return self.params[name]


def trial_document(fixed: Mapping[str, Any], space: Mapping[str, Any], ask: Ask) -> dict[str, Any]:
    """Ask for everything that is not fixed and give the trial's document."""
    document: dict[str, Any] = copy.deepcopy(dict(fixed))
    for part in NETWORK_PARTS:
        if part in space:
            option = copy.deepcopy(_value(space[part], part, "", ask))
            document.update(option if part == "pair" else {part: option})
    document |= _method(document, space, ask)
    protocol = fields_below(space, "protocol")
    if protocol:
        asked = {name: _value(node, f"protocol.{name}", "protocol.", ask) for name, node in protocol.items()}
        document["protocol"] = _laid(as_mapping(document.get("protocol"), "preset"), asked)
    if "seed" in space:
        document["seed"] = _value(space["seed"], "seed", "", ask)
    return document


def baseline_document(fixed: Mapping[str, Any], space: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Lay a baseline's changes over the fixed part.

    A method that names its row or class replaces the fixed one, other fields are laid over it, and so are protocol
    fields. Networks and a seed that only the space knows are its first options.
    """
    document: dict[str, Any] = {}
    for part in (*NETWORK_PARTS, "seed"):
        if isinstance(space.get(part), Choice):
            option = space[part].options[0]
            document.update(option if part == "pair" else {part: option})
    document = copy.deepcopy({**document, **fixed, **changes})
    if "protocol" in changes and "protocol" in fixed:
        document["protocol"] = _laid(*(as_mapping(source["protocol"], "preset") for source in (fixed, changes)))
    method = changes.get("method")
    if isinstance(method, dict) and not {"row", "name"} & set(method) and "method" in fixed:
        document["method"] = _laid(method_mapping(fixed["method"]), method)
    return document


def _laid(before: Any, after: Any) -> Any:
    """Lay one mapping over another; of two values that are none, reading the trial will complain about one."""
    if isinstance(before, dict) and isinstance(after, dict):
        return {**before, **after}
    return after if isinstance(before, dict) else before


def as_mapping(data: Any, key: str) -> Any:
    """Write a short form, ``cub200`` for ``{preset: cub200}``, in full."""
    if isinstance(data, str):
        return {key: data}
    return {} if data is None else data


def method_mapping(data: Any) -> Any:
    """Write the name of a row or method as the mapping that fields can be laid over."""
    if isinstance(data, str) and data not in METHODS and data not in PAPER_ROWS:
        return data  # reading the trial says what could be meant
    return as_mapping(data, "name" if isinstance(data, str) and data in METHODS else "row")


def fields_below(space: Mapping[str, Any], part: str) -> dict[str, Any]:
    """Give the nodes of ``part.field`` by field."""
    return {path[len(part) + 1 :]: node for path, node in space.items() if path.startswith(f"{part}.")}


def method_start(label: str, fields: Mapping[str, Any]) -> dict[str, Any]:
    """Give a branch's method without what is sampled."""
    plain = {name: value for name, value in fields.items() if not is_node(value)}
    return {**method_mapping(label), **copy.deepcopy(plain)}


def is_node(value: Any) -> bool:
    """Whether a value is asked for."""
    return isinstance(value, Interval | Choice | Branches | ScaleWeights)


def method_value(method: Mapping[str, Any], field: str) -> Any:
    """What a method's document says about a field, or else its row, or else the default."""
    row, value = method.get("row"), method.get(field)
    start = PAPER_ROWS[row] if isinstance(row, str) and row in PAPER_ROWS else CellDistillation()
    return getattr(start, field, None) if value is None else value


def scales_of(method: Mapping[str, Any]) -> tuple[int, ...]:
    """Give the scales of a method's document; none where they are no list of numbers, which is reported elsewhere."""
    scales = method_value(method, "scales")
    if not isinstance(scales, list | tuple):
        return ()
    return tuple(scales) if all(type(scale) is int for scale in scales) else ()


def weighted_scales(field: str, scales: Sequence[int], gram: str) -> tuple[int, ...]:
    """Which scales have a weight that matters: the 1 x 1 Gram matrix of scale 1 is always 1."""
    return tuple(sorted(m for m in scales if field != "scale_weights" or gram != "cells" or m > 1))


def _method(document: Mapping[str, Any], space: Mapping[str, Any], ask: Ask) -> dict[str, Any]:
    if "method" in space:
        branches: Branches = space["method"]
        label = ask.category("method", tuple(branches.fields))
        return {"method": _method_fields(method_start(label, {}), branches.fields[label], f"{label}.", ask)}
    nodes, start = fields_below(space, "method"), method_mapping(document.get("method"))
    # A fixed method that is no mapping stays as it is; reading the trial says what is wrong with it.
    return {"method": _method_fields(start, nodes, "", ask)} if nodes and isinstance(start, dict) else {}


def _method_fields(start: dict[str, Any], nodes: Mapping[str, Any], prefix: str, ask: Ask) -> dict[str, Any]:
    method = start
    for name, node in nodes.items():
        if not isinstance(node, ScaleWeights):
            method[name] = _value(node, f"{prefix}{name}", prefix, ask)
    for name, node in nodes.items():
        if isinstance(node, ScaleWeights):  # last, because scales and gram say which are asked
            method |= _weights(name, node, method, prefix, ask)
    return method


def _value(node: Any, name: str, prefix: str, ask: Ask) -> Any:
    if isinstance(node, Interval):
        return ask.number(name, node)
    if isinstance(node, Choice):
        return copy.deepcopy(node.options[node.labels.index(ask.category(name, node.labels))])
    if isinstance(node, Branches):
        label = ask.category(name, tuple(node.fields))
        inner = f"{prefix}{label}."
        return {label: {field: _value(item, inner + field, inner, ask) for field, item in node.fields[label].items()}}
    return copy.deepcopy(node)


def _weights(field: str, node: ScaleWeights, method: Mapping[str, Any], prefix: str, ask: Ask) -> dict[str, Any]:
    """Ask for raw weights and normalise them; a single weighted scale has all the weight and is not asked for."""
    scales = scales_of(method)
    weighted = weighted_scales(field, scales, method_value(method, "gram"))
    if not weighted or len(scales) == 1:
        return {}
    raw = dict.fromkeys(weighted, 1.0)
    if len(weighted) > 1:
        interval = node.interval
        raw = {m: ask.number(f"{prefix}{field}.s{m}", interval) for m in weighted}
    total = sum(raw.values())
    return {field: [round(raw.get(m, 0.0) / total, _DIGITS) for m in scales]}
