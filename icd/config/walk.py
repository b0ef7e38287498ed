"""Walks over a search space: every option once, every point of a grid, and a table for people."""

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from itertools import product
from math import prod
from typing import Any

from icd.config.document import dotted
from icd.config.ranges import Choice, Interval, ScaleWeights
from icd.config.space import Place, cases, nodes_below, options_of, trial_document, weighted_scales

_MOST_CROSSED = 256  # combinations of networks and scale sets that are tried; reading one takes about 0.5 ms
Params = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Dimension:
    """One parameter of a space, as ``icd plan`` shows it."""

    name: str  # path of the value in the trial's document
    kind: str  # choice, float or integer
    values: str  # labels, or both ends with log or step
    condition: str = ""  # when it is asked; empty for always
    options: int | None = None  # how many a choice has


def corners(template: Mapping[str, Any]) -> list[Params]:
    """Parameters in which each option and both ends of each range occur; networks meet every scale set."""
    before: dict[tuple[str, Any], Params] = {}  # what was answered before each answer came up
    given: set[tuple[str, Any]] = set()
    found: list[Params] = []

    def ask(name: str, node: Choice | Interval) -> Any:
        """Answer what is forced, or else what was never answered before."""
        values = node.labels if isinstance(node, Choice) else (node.low, node.high)
        for value in values:
            before.setdefault((name, value), dict(found[-1]))
        fresh = [value for value in values if (name, value) not in given]
        value = forced[name] if forced.get(name) in values else (fresh or values)[0]
        given.add((name, value))
        return found[-1].setdefault(name, value)

    forced: Params
    for forced in ({}, *_crossed(template)):
        if not any(forced.items() <= params.items() for params in found):
            found.append({})
            trial_document(template, ask)
    while rest := [answer for answer in before if answer not in given]:
        forced = {**before[rest[0]], rest[0][0]: rest[0][1]}
        given.add(rest[0])  # even where it is not reached: two options may differ in what they ask
        found.append({})
        trial_document(template, ask)
    return found


def _crossed(template: Mapping[str, Any]) -> list[Params]:
    """Methods and scale sets times networks, often wrong together while each is right."""
    networks = [
        {dotted(path): label}
        for part in ("pair", "teacher", "student")
        for path, node, *_ in nodes_below(template.get(part), (part,))
        if isinstance(node, Choice)
        for label in node.labels
    ]
    sets: list[Params] = [
        {**({"method": chosen} if chosen else {}), **{f"method.{name}": label for name, label in answers.items()}}
        for chosen, method in options_of(template.get("method"))
        for answers, _, _ in cases(method)
    ]
    pairs = [{**network, **one} for network, one in product(networks, sets)]
    return [one for some in (pairs, sets) if len(some) <= _MOST_CROSSED for one in some if one]


def points(template: Mapping[str, Any]) -> Iterator[Params]:
    """Give every point of a finite space, the last question changing fastest."""
    waiting: list[Params] = [{}]  # answers to the first questions, those that come next last

    def ask(name: str, node: Choice | Interval) -> Any:
        if name not in params:
            first, *others = node.labels if isinstance(node, Choice) else node.values()
            waiting.extend({**params, name: value} for value in reversed(others))
            params[name] = first
        return params[name]

    while waiting:
        params = waiting.pop()
        trial_document(template, ask)
        yield params


def size(template: Any) -> int | None:
    """Count the points of a space; None for a space with a range that has no step."""
    if isinstance(template, Interval):
        return template.count if template.finite else None
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
    for place in nodes_below(template):
        for row in _weight_rows(place) if isinstance(place.node, ScaleWeights) else (_row(place),):
            known = found.setdefault(row.name, row)
            if known.condition and row.condition != known.condition:  # two options have the same parameter
                found[row.name] = replace(known, condition=f"{known.condition} or {row.condition}")
    return list(found.values())


def summary(template: Mapping[str, Any]) -> dict[str, Any]:
    """Say as plain data what is searched, for readers that have no torch."""
    return {"searched": [asdict(row) for row in dimensions(template)]}


def _row(place: Place) -> Dimension:
    node, options = place.node, None
    if isinstance(node, Choice):
        kind, values, options = "choice", ", ".join(node.labels), len(node.labels)
    else:
        more = " log" if node.log else f" step {node.step:g}" if node.step is not None else ""
        kind, values = "integer" if node.integer else "float", f"{node.low:g} to {node.high:g}{more}"
    condition = " and ".join(place.condition)
    return Dimension(name=dotted(place.path), kind=kind, values=values, condition=condition, options=options)


def _weight_rows(place: Place) -> Iterator[Dimension]:
    """Give a row for the weight of each scale that is asked in some of the cases of a method."""
    path, name, node = place.path, str(place.path[-1]), place.node
    known = [weighted_scales(name, scales, gram) for _, scales, gram in cases(place.within)]
    for scale in sorted({m for weighted in known if len(weighted) > 1 for m in weighted}):
        always = all(len(weighted) > 1 and scale in weighted for weighted in known)
        own = () if always else (f"{dotted((*path[:-1], 'scales'))} has {scale} and another weighted scale",)
        yield _row(Place((*path, f"s{scale}"), node, (*place.condition, *own), place.within))
