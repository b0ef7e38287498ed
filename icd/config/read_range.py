"""Reads ``{low, high, log, step}``: both ends finite, in order, and inside what the field allows."""

import math
from decimal import Decimal
from typing import Any

from icd.config.read import Path, Reader
from icd.config.sweep import Interval
from icd.fields import Range, ranges_of

_KEYS = ("low", "high", "log", "step")
_MOST_VALUES = 100_000  # of a stepped range


def read_interval(
    reader: Reader, annotation: Any, data: dict[str, Any], path: Path, *, integer: bool = False, positive: bool = False
) -> Interval | None:
    """Read a range of numbers.

    Args:
        reader: Takes the problems.
        annotation: Type of the field, with the bounds that both ends must keep.
        data: The mapping.
        path: Where it stands; its last part is the field.
        integer: Whole numbers only.
        positive: A scale weight: above 0 so that not all can be 0, and without a step.
    """
    before = len(reader.problems)
    reader.unknown_keys(data, _KEYS[:3] if positive else _KEYS, path)
    bounds = [*ranges_of(annotation), *([Range(above=0)] if positive else [])]
    low, high = (_end(reader, data, key, path, integer, bounds) for key in ("low", "high"))
    log = data.get("log", False)
    if not isinstance(log, bool):
        reader.problem((*path, "log"), "must be true or false", value=log)
    step = data.get("step")
    if step is not None and _is_number(reader, step, (*path, "step"), integer) and step <= 0:
        reader.problem((*path, "step"), "step > 0 must hold", value=step)
    if low is not None and high is not None and not low < high:
        reader.problem((*path, "low"), f"low < high ({high:g}) must hold", value=low)
    if log is True and low is not None and low <= 0:
        reader.problem((*path, "low"), "a logarithmic range needs low > 0", value=low)
    if log is True and step is not None:
        reader.problem((*path, "step"), "a logarithmic range has no step", value=step)
    if len(reader.problems) > before or low is None or high is None:
        return None
    if not integer:
        low, high, step = float(low), float(high), None if step is None else float(step)
    interval = Interval(low=low, high=high, log=log, step=step, integer=integer)
    return interval if step is None or _steps_fit(reader, interval, path) else None


def _end(reader: Reader, data: dict[str, Any], key: str, path: Path, integer: bool, bounds: list[Range]) -> Any:
    where = (*path, key)
    if key not in data:
        reader.problem(where, "required key is missing")
        return None
    value = data[key]
    if not _is_number(reader, value, where, integer):
        return None
    broken = [bound for bound in bounds if not bound.holds(value)]
    for bound in broken[:1]:
        reader.problem(where, bound.rule(str(path[-1])), value=value)
    return None if broken else value


def _is_number(reader: Reader, value: Any, path: Path, integer: bool) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float):
        reader.problem(path, "must be a number", value=value)
    elif not math.isfinite(value):
        reader.problem(path, "must be finite", value=value)
    elif integer and not isinstance(value, int):
        reader.problem(path, "must be a whole number", value=value)
    elif abs(value) > 2**63 - 1:
        reader.problem(path, "must fit 64 bits", value=value)
    else:
        return True
    return False


def _steps_fit(reader: Reader, interval: Interval, path: Path) -> bool:
    low, high, step = (Decimal(str(number)) for number in (interval.low, interval.high, interval.step))
    steps = (high - low) / step
    if steps > _MOST_VALUES:
        reader.problem((*path, "step"), f"must leave at most {_MOST_VALUES} values", value=interval.step)
        return False
    if steps != int(steps):
        nearest = float(low + int(steps) * step)
        hint = f"take high: {nearest:g} or {nearest + float(step):g}"
        rule = f"must be low plus a whole number of steps ({interval.step:g})"
        reader.problem((*path, "high"), rule, value=interval.high, hint=hint)
        return False
    return True
