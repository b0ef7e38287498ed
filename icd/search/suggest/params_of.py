"""From a trial's configuration back to the answers with which a space gives it; the inverse of icd/config/space.py.

Every node proposes the answers that its value may have come from, and reading the trial that they give decides. So the
rules of sampling and reading are written once, there.
"""

import math
from collections.abc import Iterator, Mapping
from itertools import islice, product
from typing import Any

from icd.config.document import Document, KeyPath, dotted
from icd.config.names import canonical
from icd.config.ranges import Choice, Interval, ScaleWeights, is_node
from icd.config.read_trial import read_trial
from icd.config.space import Stored, asked_order, trial_document
from icd.config.trial import TrialConfig
from icd.errors import ConfigError

Params = dict[str, Any]
_MOST = 2000  # sets of answers that are tried


def params_of(template: Mapping[str, Any], config: TrialConfig, hints: Mapping[str, Any]) -> Params | None:
    """Give parameters with which the space makes a configuration; None where it cannot.

    Args:
        template: What the sweep searches.
        config: The configuration wanted.
        hints: Parameters to prefer where several give the same: raw weights, which count by their ratio only.
    """
    wanted = config.to_data()
    pair = {part: wanted.get(part) for part in ("teacher", "student")}
    for params in islice(_answers(template, (), {**wanted, "pair": pair}, hints), _MOST):
        try:
            made = read_trial(Document(trial_document(template, Stored(params)), "a trial"))
        except ConfigError:
            continue
        if _alike(made.to_data(), wanted):
            return params
    return None


def holds(node: Interval | Choice, value: Any) -> bool:
    """Whether a range or choice has a value."""
    if isinstance(node, Choice):
        return canonical(value) in [canonical(option) for option in node.options if not is_node(option)]
    if isinstance(value, bool) or not isinstance(value, int | float) or not node.low <= value <= node.high:
        return False
    if node.integer:
        return value == int(value) and int(value) in node.values()
    return not node.finite or any(math.isclose(value, other, rel_tol=1e-9) for other in node.values())


def _answers(node: Any, path: KeyPath, value: Any, hints: Mapping[str, Any]) -> Iterator[Params]:
    """Give the answers that may have led to a value, with those to the questions below it."""
    if isinstance(node, ScaleWeights):
        yield from _weights(node, path, value, hints)
    elif isinstance(node, Interval):
        if holds(node, value):
            yield {dotted(path): int(value) if node.integer else float(value)}
    elif isinstance(node, Choice):
        for label, option in zip(node.labels, node.options, strict=True):
            if _may_be(option, value):
                for params in _answers(option, path, value, hints):
                    yield {dotted(path): label, **params}
    elif isinstance(node, Mapping):
        inner = value if isinstance(value, Mapping) else {}
        yield from _joined([_answers(node[name], (*path, name), inner.get(name), hints) for name in asked_order(node)])
    elif isinstance(node, list):
        items = value if isinstance(value, list) and len(value) == len(node) else [None] * len(node)
        yield from _joined([_answers(item, (*path, i), items[i], hints) for i, item in enumerate(node)])
    else:
        yield {}


def _joined(groups: list[Iterator[Params]]) -> Iterator[Params]:
    for parts in product(*groups):
        yield {name: value for part in parts for name, value in part.items()}


def _may_be(option: Any, value: Any) -> bool:
    """Whether an option can have led to a value; what a file writes shorter than a configuration may always."""
    if isinstance(option, Mapping) and isinstance(value, Mapping):
        if "arch" in option:
            return is_node(option["arch"]) or option["arch"] == value.get("arch")
        return len(option) != 1 or len(value) != 1 or option.keys() == value.keys()
    if is_node(option) or option is None or isinstance(option, Mapping | list):
        return True
    return canonical(option) == canonical(value) or isinstance(value, Mapping | list)


def _weights(node: ScaleWeights, path: KeyPath, value: Any, hints: Mapping[str, Any]) -> Iterator[Params]:
    """Give raw weights in the node's range with the ratios of a method's; those hinted at, or else the middle ones."""
    weights = value if isinstance(value, Mapping) else {}
    shares = {dotted((*path, name)): share for name, share in weights.items() if share > 0}
    if len(shares) > 1:
        if all(holds(node, hints.get(name)) for name in shares):
            yield {name: hints[name] for name in shares}
        least, most = node.low / min(shares.values()), node.high / max(shares.values())
        if least <= most:
            raw = {name: math.sqrt(least * most) * share for name, share in shares.items()}
            yield {name: min(max(node.low, weight), node.high) for name, weight in raw.items()}
    yield {}


def _alike(one: Any, other: Any) -> bool:
    """Compare plain data; numbers may differ by the rounding of weights that were normalised twice."""
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        return one.keys() == other.keys() and all(_alike(one[name], other[name]) for name in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(_alike, one, other))
    if isinstance(one, float) or isinstance(other, float):
        numbers = isinstance(one, int | float) and isinstance(other, int | float)
        return numbers and math.isclose(one, other, rel_tol=1e-9, abs_tol=1e-11)
    return bool(one == other)
