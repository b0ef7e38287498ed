"""How ranges and choices of other programs (W&B, NNI, Ax, Determined) are written here; used in hints only."""

from collections.abc import Mapping, Sequence
from typing import Any

from icd.errors import shorten

_ENDS = (("min", "max"), ("minval", "maxval"), ("lower", "upper"), ("low", "high"))
_WORDS = frozenset(
    {"values", "value", "vals", "_value", "_type", "type", "distribution", "bounds", "categories"}
    | {word for pair in _ENDS[:3] for word in pair}
)


def foreign_hint(data: Any) -> str:
    """Say how to write here what another program's words mean; empty where the data have none of them.

    ``{values: [1, 2]}`` is ``{choices: [1, 2]}``; ``{distribution: log_uniform, min: 1, max: 9}`` is
    ``{low: 1, high: 9, log: true}``. A list stands for its choices.
    """
    if isinstance(data, list):
        return f"write {_choices(data)}"
    if not isinstance(data, Mapping) or not _WORDS & data.keys():
        return ""
    kind = " ".join(str(data.get(word, "")) for word in ("distribution", "_type", "type"))
    listed = next((data[word] for word in ("values", "vals", "categories", "_value") if word in data), None)
    if isinstance(listed, list) and ("_value" not in data or "uniform" not in kind):
        return f"write {_choices(listed)}"
    ends = listed if isinstance(listed, list) else data.get("bounds")
    for low, high in _ENDS:
        if low in data and high in data:
            ends = [data[low], data[high]]
    if isinstance(ends, list) and len(ends) >= 2:
        log = ", log: true" if "log" in kind or data.get("log") is True else ""
        return f"write {{low: {ends[0]}, high: {ends[1]}{log}}}"
    if "value" in data:
        return f"write {shorten(data['value'])} alone"
    return "write {low: 1, high: 8} with log: true or step: 1 if need be, or {choices: [1, 2]}"


def _choices(items: Sequence[Any]) -> str:
    shown = ", ".join(shorten(item, 40) if isinstance(item, str) else str(item) for item in items[:6])
    return f"{{choices: [{shown}{', ...' if len(items) > 6 else ''}]}}"
