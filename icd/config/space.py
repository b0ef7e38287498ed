"""What a sweep searches: a trial's document in which ranges and choices stand where a trial has values.

A parameter is called by the path of its value in the trial's document, everywhere. Whoever answers may be an Optuna
trial, stored parameters, or a walk over all options (icd/config/walk.py). All meet the same questions in one order, so
that stored parameters always give the document that they were asked for.
"""

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any, NamedTuple

from icd.config.document import TOP, KeyPath, dotted, full_form
from icd.config.names import DIGITS, whole
from icd.config.ranges import GONE, Choice, Interval, ScaleWeights, changed, is_node
from icd.config.training import TrainingConfig
from icd.errors import ConfigError, Problem
from icd.fields import annotations
from icd.methods import METHODS, PAPER_ROWS, CellDistillation

# An equal space is asked in an equal order, whatever the order of the file.
_FIELDS = [name for cls in (*METHODS.values(), TrainingConfig) for name in annotations(cls)]
_ORDER: Mapping[str, int] = {name: place for place, name in enumerate([*TOP, "recipe", "preset", *_FIELDS])}

# Answers a question about the value at a path; a choice is answered by the label of an option.
Ask = Callable[[str, Choice | Interval], Any]


@dataclass(frozen=True, slots=True)
class Stored:
    """Answers from the parameters of an earlier trial."""

    params: Mapping[str, Any]

    def __call__(self, name: str, node: Choice | Interval) -> Any:
        if name not in self.params:
            raise ConfigError(Problem(path=name, rule="this parameter of the space is missing"))
        value = self.params[name]
        if isinstance(node, Choice):
            right, rule = value in node.labels, f"must be one of {', '.join(node.labels)}"
        else:
            right = isinstance(value, int | float) and value is not True and node.low <= value <= node.high
            rule = f"must be a number with {node.low:g} <= {name} <= {node.high:g}"
        if not right:
            raise ConfigError(Problem(path=name, rule=rule, value=value))
        return value


def trial_document(
    template: Mapping[str, Any], ask: Ask, moved: dict[KeyPath, KeyPath] | None = None
) -> dict[str, Any]:
    """Ask for everything that is searched and give the trial's document.

    Args:
        template: A trial's document with ranges and choices.
        ask: Answers.
        moved: Takes where parts of the trial stand in the sweep's file, for messages; numbers stand at an end of
            their range.
    """
    made: dict[str, Any] = _Filler(ask, {} if moved is None else moved).fill(template, (), ())
    return _both_networks(made)


def _both_networks(document: dict[str, Any]) -> dict[str, Any]:
    """Write a pair as the two networks that it is."""
    pair = document.pop("pair", None)
    return document | {part: pair.get(part) for part in ("teacher", "student")} if isinstance(pair, dict) else document


@dataclass(frozen=True)
class _Filler:
    ask: Ask
    moved: dict[KeyPath, KeyPath]

    def fill(self, node: Any, path: KeyPath, place: KeyPath) -> Any:
        if isinstance(node, Interval):
            value = self.ask(dotted(path), node)
            if node.step and not node.integer:  # Optuna draws 0.30000000000000004 for 0.1 + 2 * 0.1
                value = node.at(round((value - node.low) / node.step))
            self.moved[path] = (*place, "high" if value == node.high else "low")
            return whole(value)
        if isinstance(node, Choice):
            index = node.labels.index(self.ask(dotted(path), node))
            place = (*place, *(node.places[index] if node.places else ()))
            for part in ("teacher", "student") if path == ("pair",) else ():
                self.moved[(part,)] = (*place, part)
            self.moved[path] = place
            return self.fill(node.options[index], path, place)
        if isinstance(node, Mapping):
            return self._mapping(node, path, place)
        if isinstance(node, list):
            return [self.fill(item, (*path, index), (*place, index)) for index, item in enumerate(node)]
        return copy.deepcopy(node)

    def _mapping(self, node: Mapping[str, Any], path: KeyPath, place: KeyPath) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for name in asked_order(node):
            if isinstance(node[name], ScaleWeights):  # last, because scales and gram say which are asked
                found |= self._weights(name, node[name], found, path)
            else:
                found[name] = self.fill(node[name], (*path, name), (*place, name))
        return found

    def _weights(self, name: str, node: ScaleWeights, method: Mapping[str, Any], path: KeyPath) -> dict[str, Any]:
        """Ask for raw weights and normalise them; a single weighted scale has all the weight and is not asked for."""
        scales = scales_of(method)
        asked = weighted_scales(name, scales, method_value(method, "gram"))
        if not asked or len(scales) == 1:
            return {}
        raw = {m: self.ask(dotted((*path, name, f"s{m}")), node) if len(asked) > 1 else 1.0 for m in asked}
        return {name: [round(raw.get(m, 0.0) / sum(raw.values()), DIGITS) for m in scales]}


def asked_order(mapping: Mapping[str, Any]) -> list[str]:
    """Give the keys of a mapping in the order in which they are asked."""
    return sorted(mapping, key=lambda name: (isinstance(mapping[name], ScaleWeights), _ORDER.get(name, 999), name))


def baseline_document(
    template: Mapping[str, Any], changes: Mapping[str, Any], moved: dict[KeyPath, KeyPath], place: KeyPath = ()
) -> dict[str, Any]:
    """Lay a baseline's changes over the fixed part, and note where in the file those stand.

    A method that names its row or class replaces the fixed one, other fields are laid over it, and so are those of the
    training. Networks and a seed that are searched, and that the baseline does not name, are the first options.
    """
    fixed = {part: (fixed_part if part in ("method", "training") else _first)(node) for part, node in template.items()}
    document = {part: value for part, value in _both_networks(fixed).items() if value is not None}
    for part, value in changes.items():
        before, after = document.get(part), full_form(part, copy.deepcopy(value))
        named = part == "method" and isinstance(after, dict) and not ("recipe" in after or "name" in after)
        laid = isinstance(after, dict) and (part == "training" or named)
        document[part] = {**before, **after} if laid and isinstance(before, dict) else after
        parts: list[KeyPath] = [(part, name) for name in after] if laid else [(part,)]
        moved |= {inner: (*place, *inner) for inner in parts}
    return document


def _first(template: Any) -> Any:
    """Give a template with the first option of each choice and the low end of each range."""
    return changed(template, lambda node: _first(node.options[0]) if isinstance(node, Choice) else node.low)


def fixed_part(template: Any) -> Any:
    """Give a template without what is searched; None where nothing is left."""
    found = changed(template, lambda node: GONE)
    return None if found is GONE else found


class Place(NamedTuple):
    """Where a range or choices stand in a template."""

    path: KeyPath  # of the value in a trial
    node: Any
    condition: tuple[str, ...]  # choices above it, as ``method is KD``, under which it is asked
    within: Mapping[str, Any]  # the mapping that it is a part of


def nodes_below(
    template: Any, path: KeyPath = (), condition: tuple[str, ...] = (), within: Mapping[str, Any] | None = None
) -> Iterator[Place]:
    """Give every range and choice, in the order in which they are asked."""
    if is_node(template):
        yield Place(path, template, condition, within or {})
    if isinstance(template, Choice):
        for label, option in options_of(template):
            more = (f"{dotted(path)} is {label}",) if len(template.labels) > 1 else ()
            yield from nodes_below(option, path, (*condition, *more))
    elif isinstance(template, Mapping):
        for name in asked_order(template):
            yield from nodes_below(template[name], (*path, name), condition, template)
    elif isinstance(template, list):
        for index, item in enumerate(template):
            yield from nodes_below(item, (*path, index), condition)


def options_of(node: Any) -> list[tuple[str, Any]]:
    """Give the options of a choice by their labels; what is fixed is the only one, and has none."""
    return list(zip(node.labels, node.options, strict=True)) if isinstance(node, Choice) else [("", node)]


def cases(method: Any) -> list[tuple[dict[str, str], tuple[int, ...], str]]:
    """List what decides on weights: answers below a method, and the scales and the Gram matrix that follow."""
    if not isinstance(method, Mapping):
        return []
    named = [[(name, *option) for option in options_of(method.get(name))] for name in ("recipe", "scales", "gram")]
    found = []
    for combination in product(*named):
        filled = {**method, **{name: option for name, label, option in combination if label}}
        answers = {name: label for name, label, _ in combination if label}
        found.append((answers, scales_of(filled), str(method_value(filled, "gram"))))
    return found


def method_value(method: Mapping[str, Any], name: str) -> Any:
    """What a method's document says about a field, or else its row, or else the default."""
    row, value = method.get("recipe"), method.get(name)
    start = PAPER_ROWS[row] if isinstance(row, str) and row in PAPER_ROWS else CellDistillation()
    return getattr(start, name, None) if value is None or is_node(value) else value


def scales_of(method: Mapping[str, Any]) -> tuple[int, ...]:
    """Give the scales of a method's document; none where they are no list of numbers, which is reported elsewhere."""
    scales = method_value(method, "scales")
    right = isinstance(scales, list | tuple) and all(type(scale) is int for scale in scales)
    return tuple(scales) if right else ()


def weighted_scales(name: str, scales: Sequence[int], gram: str) -> tuple[int, ...]:
    """Which scales have a weight that matters: the 1 x 1 Gram matrix of scale 1 is always 1."""
    return tuple(sorted(m for m in scales if name != "cluster_scale_weights" or gram != "cells" or m > 1))
