"""Documents of sweeps from short parts, so that a test changes one thing at a time.

``document_of`` takes the parts of a file flat: those of ``search`` beside the others, and ``ranges``, a mapping of what
is searched: fields of the method by their names, those of the training under ``training``, and networks, pair, method
and seed as lists of choices.
"""

from collections.abc import Mapping
from copy import deepcopy
from typing import Any

from icd.config.document import full_form, is_range

_SEARCH = ("objective", "sampler", "pruner", "enqueue", "budget", "rank")
_PARTS = ("student", "teacher", "pair", "method", "seed")


def document_of(parts: Mapping[str, Any]) -> dict[str, Any]:
    """Give the document of a file; parts that are None are left out."""
    data = {name: deepcopy(value) for name, value in parts.items() if value is not None}
    ranges: dict[str, Any] = dict(data.pop("ranges", {}))
    found = {name: value for name, value in data.items() if name not in _SEARCH}
    for name in _PARTS:
        if name in ranges:
            found[name] = _choices(ranges.pop(name))
    for part, fields in (("training", ranges.pop("training", {})), ("method", ranges)):
        if isinstance(fields, dict) and fields:
            found[part] = {**(full_form(part, found.get(part)) or {}), **{n: _node(n, v) for n, v in fields.items()}}
    search = {name: data[name] for name in _SEARCH if name in data}
    return {**found, "search": {**found.get("search", {}), **search}} if search else found


def _choices(value: Any) -> Any:
    """Write a list, or a mapping of names to fields, as choices."""
    if is_range(value):
        return value
    if isinstance(value, dict):
        value = {
            name: {n: _node(n, v) for n, v in fields.items()} if isinstance(fields, dict) else fields
            for name, fields in value.items()
        }
    return {"choices": value}


def _node(name: str, value: Any) -> Any:
    several = isinstance(value, list) or (isinstance(value, dict) and len(value) > 1 and not is_range(value))
    return _choices(value) if name in ("base_loss", "preset") and several else value
