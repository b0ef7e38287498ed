"""What people write by habit of Optuna, Ray Tune, W&B, Determined or Hydra, and what it is here.

A hint says ``write PATH: VALUE``; written so, the mistake is gone. The words are in habits.toml.
"""

import re
import tomllib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, get_origin

from icd.config.document import SWEEP_KEYS, TOP, Document, KeyPath, dotted, is_range
from icd.config.yaml import parse_yaml, yaml_text
from icd.errors import Problem, did_you_mean

_OLD = ("space", "generalist", "protocol")  # keys of the first files
_LONGEST = 240  # characters of a hint; with a long name and a long value the line stays below 400
_WORDS = tomllib.loads(Path(__file__).with_name("habits.toml").read_text("utf-8"))
_PLACES = {word: place for place, words in _WORDS["places"].items() for word in words.split()}
_RANGES: Mapping[str, list[str]] = {part: words.split() for part, words in _WORDS["ranges"].items()}
_CALL = re.compile(r"(?:[a-z]+\.)*([A-Za-z_]+)\((.*)\)")


def meant(name: object, allowed: Sequence[str], path: KeyPath = (), value: object = None) -> str:
    """Say what an unknown name or key means here, or list what is allowed."""
    inside = _WORDS["keys"].get(str(path[-1]), {}).get(str(name)) if path else None
    if inside and inside in allowed:
        return write((*path, inside), value)
    place = _PLACES.get(str(name).lower()) if isinstance(name, str) else None
    if place and value is not None:
        head, tail = place.split(".")[0], place.split(".")[-1]
        if path and tail in allowed:  # the same part has it under another name
            return write((*path, tail), value)
        inside = not path or str(path[0]) in (head, "search")
        if inside and (head in allowed or "search" in allowed or path[:1] == ("search",)):
            return write(tuple(place.split(".")), value)
    hint = did_you_mean(name, allowed)
    return hint if len(hint) <= _LONGEST else f"{hint[:_LONGEST].rpartition(',')[0]}, ... ({len(allowed)} in all)"


def write(path: KeyPath, value: Any) -> str:
    """Tell to write a value at a path."""
    return f"write {dotted(path)}: {one_line(value)}"


def one_line(value: Any) -> str:
    """Write a value as YAML on one line."""
    return yaml_text(value, default_flow_style=True, width=10_000).strip().removesuffix("\n...")


def about_value(path: KeyPath, value: object, annotation: Any, *, searched: bool = False) -> str:
    """Say how a value that is refused is written here; empty where nothing is known of it."""
    text, names = str(value).lower(), [str(name) for name in path]
    for key, table in _WORDS["values"].items():
        part, *field = key.split(".")
        right = next((new for new, words in table.items() if text in (new, *words.split())), "")
        if right and names[-1:] == [part]:
            return write((*path, *field), right)
        if right and names[-2:] == [part, *field]:
            return write(path, right)
    if searched and isinstance(value, list) and value and get_origin(annotation) is not tuple:
        return write(path, {"choices": value})
    found = as_range(value)
    if found is None:
        return ""
    return write(path, found if searched else one_value(found))


def as_range(value: object) -> Any:
    """Translate how other tools write a range; None for what is none of theirs."""
    read: Mapping[type, Callable[[Any], Any]] = {str: _from_text, dict: _from_mapping}
    try:
        return read[type(value)](value) if type(value) in read else None
    except (ArithmeticError, LookupError, TypeError, ValueError):  # their words around other things, or no YAML
        return None


def _from_mapping(value: dict[str, Any]) -> Any:
    if set(value) <= {"value", "type", "val"} and ("value" in value or "val" in value):
        return value.get("value", value.get("val"))
    for key in _RANGES["choices"]:
        if isinstance(value.get(key), list):
            return {"choices": value[key]}
    kind = " ".join(str(value[key]) for key in _RANGES["kind"] if key in value).lower()
    if isinstance(inner := value.get("_value"), list):
        return _from_call(kind, inner, {})
    low, high = (next((value[key] for key in _RANGES[end] if key in value), None) for end in ("low", "high"))
    known = [key for part, keys in _RANGES.items() if part != "choices" for key in keys]
    if low is None or high is None or not set(value) <= set(known):
        return None
    if "base" in value and "log" in kind:  # Determined gives exponents
        low, high = float(value["base"]) ** low, float(value["base"]) ** high
    log = "log" if value.get("log") is True or value.get("log_scale") is True else kind
    return _interval(low, high, log, [value[key] for key in _RANGES["step"] if key in value])


def _interval(low: Any, high: Any, kind: str, step: Sequence[Any]) -> Any:
    log = "log" in kind
    found = {"low": low, "high": high, **({"log": True} if log else {})}
    return found | ({"step": step[0]} if step and not log and step[0] else {})


def _from_text(text: str) -> Any:
    call = _CALL.fullmatch(text.strip())
    if call is None:
        return None
    _, suggested, kind = call[1].lower().rpartition("suggest_")
    arguments = parse_yaml(f"[{call[2].replace('=', ': ')}]", text).data
    named = {name: item for part in arguments if isinstance(part, dict) for name, item in part.items()}
    plain = [part for part in arguments if not isinstance(part, dict)]
    return _from_call(kind, plain[1:] if suggested and plain and isinstance(plain[0], str) else plain, named)


def _from_call(kind: str, plain: list[Any], named: Mapping[str, Any]) -> Any:
    if kind in ("choice", "grid_search", "categorical"):
        return {"choices": plain[0] if len(plain) == 1 and isinstance(plain[0], list) else plain}
    if "uniform" in kind or "rand" in kind or kind in ("interval", "range", "float", "int"):
        low, high = [*plain, *(named[key] for key in ("low", "high", "lower", "upper") if key in named)][:2]
        whole = kind in ("randint", "lograndint", "range")  # their upper end is left out
        return _interval(low, high - 1 if whole else high, "log" if named.get("log") is True else kind, plain[2:3])
    return None


def one_value(found: Any) -> Any:
    """Give one value of a range."""
    if not is_range(found):
        return found
    if "low" in found:
        return found["low"]
    choices = found.get("choices", found.get("subsets_of"))
    first = next(iter(choices), None) if isinstance(choices, list | dict) and choices else None
    if isinstance(choices, Mapping) and first is not None:
        fields = choices[first] if isinstance(choices[first], dict) else {}
        return {first: {key: one_value(item) for key, item in fields.items()}}
    return [first] if "subsets_of" in found else first


def about_file(document: Document, kind: str) -> Problem | None:
    """Say in one sentence that a file is of an older icd, or a sweep's where a trial's is asked for, or the reverse."""
    data = document.data
    if old := [key for key in _OLD if key in data]:
        rule = "is of an older icd: ranges stand where values stand, how to search stands under search"
        return document.problem((old[0],), rule, hint="docs/how-to/sweep.md shows how such a file reads today")
    if kind == "trial" and (own := [key for key in SWEEP_KEYS if key in data]):
        rule = "is a key of a sweep's file, and this must be a trial's"
        return document.problem((own[0],), rule, hint="use 'icd sweep'")
    if kind == "sweep" and not is_sweep(data) and any(key in data for key in TOP):
        rule = "must be a sweep's file, but has neither a name nor search, as a trial's has"
        return document.problem((), rule, hint="use 'icd train'")
    return None


def is_sweep(data: Any) -> bool:
    """Whether a file's data is meant as a sweep's: it has a key that no trial has."""
    return isinstance(data, dict) and any(key in data for key in (*SWEEP_KEYS, *_OLD))
