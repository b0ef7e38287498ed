"""From a trial's configuration back to the answers with which a space gives it; the inverse of sampling.py.

Every node proposes the answers that its value may have come from, and reading the trial that they give decides. So the
rules of sampling and reading are written once, there.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import product
from typing import Any

from icd.config.labels import canonical
from icd.config.read_trial import read_trial
from icd.config.sampling import NETWORK_PARTS, Stored, fields_below, is_node, scales_of, trial_document, weighted_scales
from icd.config.sweep import Branches, Choice, Interval, ScaleWeights
from icd.config.trial import TrialConfig
from icd.config.yaml import Document
from icd.errors import ConfigError

Params = dict[str, Any]


def params_of(
    fixed: Mapping[str, Any], space: Mapping[str, Any], config: TrialConfig, hints: Mapping[str, Any]
) -> Params | None:
    """Give parameters with which the space makes a configuration; None where it cannot.

    Args:
        fixed: The fixed part of the sweep.
        space: What it samples.
        config: The configuration wanted.
        hints: Parameters to prefer where several give the same: raw weights, which count by their ratio only.
    """
    wanted = config.to_data()
    for params in _candidates(space, wanted, hints):
        try:
            made = read_trial(Document(trial_document(fixed, space, Stored(params)), "a trial"))
        except ConfigError:
            continue
        if _alike(made.to_data(), wanted):
            return params
    return None


def holds(node: Interval | Choice, value: Any) -> bool:
    """Whether a range or choice has a value."""
    if isinstance(node, Choice):
        return canonical(value) in map(canonical, node.options)
    if isinstance(value, bool) or not isinstance(value, int | float) or not node.low <= value <= node.high:
        return False
    return not node.finite or any(math.isclose(value, other, rel_tol=1e-9) for other in node.values())


def arch_of(network: Any) -> Any:
    """Name the network of a short or full form."""
    return network.get("arch") if isinstance(network, Mapping) else network


def same_networks(part: str, option: Any, document: Mapping[str, Any]) -> bool:
    """Whether an option of ``student``, ``teacher`` or ``pair`` names the architectures of a trial's document."""
    names = ("teacher", "student") if part == "pair" else (part,)
    of_option = option if part == "pair" else {part: option}
    return all(arch_of(of_option.get(name)) == arch_of(document.get(name)) for name in names)


def _candidates(space: Mapping[str, Any], wanted: Mapping[str, Any], hints: Mapping[str, Any]) -> Iterator[Params]:
    groups: list[list[Params]] = []
    for part in NETWORK_PARTS:
        if part in space:
            options = zip(space[part].labels, space[part].options, strict=True)
            groups.append([{part: label} for label, option in options if same_networks(part, option, wanted)])
    method, protocol = wanted["method"], wanted["protocol"]
    if "method" in space:
        branches = space["method"].fields.items()
        named = [(label, _fields(nodes, f"{label}.", method, hints)) for label, nodes in branches]
        groups.append([{"method": label, **params} for label, found in named for params in found])
    groups.append(_fields(fields_below(space, "method"), "", method, hints))
    groups.append(_fields(fields_below(space, "protocol"), "protocol.", protocol, hints))
    if "seed" in space:
        groups.append(_answers(space["seed"], "seed", "", wanted["seed"], hints))
    for parts in product(*groups):
        yield {name: value for part in parts for name, value in part.items()}


def _fields(nodes: Mapping[str, Any], prefix: str, data: Mapping[str, Any], hints: Mapping[str, Any]) -> list[Params]:
    groups: list[list[Params]] = [[{}]]
    for name, node in nodes.items():
        if isinstance(node, ScaleWeights):
            groups.append(_weights(name, node, prefix, data, hints))
        elif is_node(node):
            groups.append(_answers(node, f"{prefix}{name}", prefix, data.get(name), hints))
    return [{name: value for part in parts for name, value in part.items()} for parts in product(*groups)]


def _answers(node: Any, name: str, prefix: str, value: Any, hints: Mapping[str, Any]) -> list[Params]:
    """Give the answers to one question that may have led to a value, with those to the questions below it."""
    if isinstance(node, Interval):
        return [{name: int(value) if node.integer else float(value)}] if holds(node, value) else []
    if isinstance(node, Choice):
        pairs = list(zip(node.labels, node.options, strict=True))
        exact = [{name: label} for label, option in pairs if canonical(option) == canonical(value)]
        written_shorter = value is None or isinstance(value, list | Mapping)  # by the file than by a configuration
        return exact or ([{name: label} for label in node.labels] if written_shorter else [])
    if isinstance(node, Branches) and isinstance(value, Mapping):
        label = next(iter(value))
        if label not in node.fields:
            return []
        return [
            {name: label, **params} for params in _fields(node.fields[label], f"{prefix}{label}.", value[label], hints)
        ]
    return []


def _weights(
    field: str, node: ScaleWeights, prefix: str, method: Mapping[str, Any], hints: Mapping[str, Any]
) -> list[Params]:
    """Give raw weights in the node's range with the ratios of a method's; those hinted at, or else the middle ones."""
    scales, weights = scales_of(method), method.get(field)
    asked = weighted_scales(field, scales, method.get("gram", ""))
    if len(asked) < 2:
        return [{}]
    if not isinstance(weights, Sequence) or len(weights) != len(scales):
        return []
    shares = {f"{prefix}{field}.s{m}": share for m, share in zip(scales, weights, strict=True) if m in asked}
    found = []
    if all(holds(node.interval, hints.get(name)) for name in shares):
        found.append({name: hints[name] for name in shares})
    if min(shares.values()) > 0:
        least, most = node.low / min(shares.values()), node.high / max(shares.values())
        raw = {name: math.sqrt(least * most) * share for name, share in shares.items()}
        if least <= most:
            found.append({name: min(max(node.low, value), node.high) for name, value in raw.items()})
    return found


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
