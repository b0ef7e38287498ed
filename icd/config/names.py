"""How parameters are shown: by the shortest tail of their path that is clear, and weights with sum 1."""

import re
from collections.abc import Collection, Mapping
from typing import Any

from icd.config.forms import WEIGHTS

DIGITS = 12  # of a weight, as the method keeps them: a common factor of the raw weights leaves no trace
_SCALE = re.compile(r"s\d+")


def tails(names: Collection[str]) -> dict[str, str]:
    """Give the shortest tail of each path that no other path has: ``kd.temperature`` beside ``dkd.temperature``."""
    found = {}
    for name in names:
        parts = name.split(".")
        least = 2 if _SCALE.fullmatch(parts[-1]) else 1  # s2 alone says nothing
        for count in range(min(least, len(parts)), len(parts) + 1):
            tail = ".".join(parts[-count:])
            if not any(other != name and f".{other}".endswith(f".{tail}") for other in names):
                break
        found[name] = tail
    return found


def shown_params(params: Mapping[str, Any]) -> dict[str, Any]:
    """Give parameters as results show them: weights with sum 1, as the trial has them."""
    totals: dict[str, float] = {}
    for name, value in params.items():
        if (group := _weights_of(name)) is not None:
            totals[group] = totals.get(group, 0.0) + value
    found = {}
    for name, value in params.items():
        group = _weights_of(name)
        found[name] = value if group is None else round(value / totals[group], DIGITS)
    return found


def _weights_of(name: str) -> str | None:
    group = name.rpartition(".")[0]
    return group if group.rpartition(".")[2] in WEIGHTS else None
