"""How parameters are shown: by the shortest tail of their path that is clear, weights with sum 1, options by labels.

A label never looks like a number: MLflow's compare page would draw ``1`` and ``10`` on a number axis and drop the rest.
"""

import json
import re
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from icd.config.document import WEIGHTS

DIGITS = 12  # of a weight, as the method keeps them: a common factor of the raw weights leaves no trace
_SCALE = re.compile(r"s\d+")


def tails(names: Collection[str]) -> dict[str, str]:
    """Give the shortest tail of each path that no other path has: ``kd.temperature`` beside ``dkd.temperature``."""
    found = {}
    for name in (known := set(names)):
        parts = name.split(".")
        least = 2 if _SCALE.fullmatch(parts[-1]) else 1  # s2 alone says nothing
        ends = [".".join(parts[-count:]) for count in range(least, len(parts))]
        found[name] = next((end for end in ends if sum(f".{other}".endswith(f".{end}") for other in known) == 1), name)
    return {name: found[name] for name in names}


def shown_params(params: Mapping[str, Any]) -> dict[str, Any]:
    """Give parameters as results show them: weights with sum 1, as the trial has them."""
    groups = {name: name.rpartition(".")[0] for name in params}
    totals: Counter[str] = Counter()
    for name, group in groups.items():
        if group.rpartition(".")[2] in WEIGHTS:
            totals[group] += params[name]
    return {
        name: round(value / totals[groups[name]], DIGITS) if groups[name] in totals else value
        for name, value in params.items()
    }


def labels_of(field: str, options: Sequence[Any]) -> tuple[str, ...]:
    """Name each option; two that would read alike are written out."""
    short = [_short(field, option) for option in options]
    full = [
        label if short.count(label) == 1 else _long(label, option) for label, option in zip(short, options, strict=True)
    ]
    return tuple(
        label if full.count(label) == 1 else f"{label}#{full[:n].count(label) + 1}" for n, label in enumerate(full)
    )


def canonical(value: Any) -> str:
    """Text that is equal for equal options: 2 and 2.0, and mappings in any order."""
    return json.dumps(whole(value), sort_keys=True)


def whole(value: Any) -> Any:
    """Write equal numbers alike, 2.0 as 2 and -0.0 as 0, in plain data or a template."""
    if isinstance(value, Mapping):
        return {name: whole(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [whole(item) for item in value]
    if hasattr(value, "to_data"):
        return whole(value.to_data())
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _short(field: str, option: Any) -> str:
    if isinstance(option, Mapping):
        if {"teacher", "student"} <= option.keys():
            return f"{_short('teacher', option['teacher'])}>{_short('student', option['student'])}"
        for name in ("arch", "recipe", "name"):
            if isinstance(option.get(name), str):
                return str(option[name])
        return next(iter(option)) if len(option) == 1 else _long(field, option)
    if isinstance(option, list):
        if field == "scales":
            return "+".join(f"s{scale}" for scale in option) or "empty"
        return f"{field}{'+'.join(str(whole(item)) for item in option)}"
    if option is None or isinstance(option, bool):
        return str(option).lower()
    text = str(whole(option))
    return f"{field}{text}" if text[:1] in "+-.0123456789" else text


def _long(label: str, option: Any) -> str:
    if not isinstance(option, Mapping):
        return label
    parts = [f"{name}={value}" for name, value in _flat(option) if name not in ("arch", "recipe", "name")]
    return f"{label}({','.join(parts)})" if parts else label


def _flat(option: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    rows = []
    for name, value in sorted(option.items()):
        if not hasattr(value, "to_data"):  # a range has no value yet
            rows += _flat(value, f"{prefix}{name}.") if isinstance(value, Mapping) else [(f"{prefix}{name}", value)]
    return rows
