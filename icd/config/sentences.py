"""What pydantic found, in the words of a rule: ``epochs >= 1 must hold``, with the nearest name that would be right."""

from collections.abc import Iterator
from typing import Any

from icd.config.document import ABSENT, KeyPath
from icd.config.habits import meant
from icd.config.schema import TABLES, Part, field_type
from icd.fields import annotations, choices_of, ranges_of

Said = tuple[KeyPath, str, object, str]  # place in the part, rule, value, hint

_RULES = {
    "float_type": "must be a number",
    "float_parsing": "must be a number",
    "int_type": "must be a whole number",
    "int_from_float": "must be a whole number",
    "int_parsing_size": "must be a whole number with at most 4300 digits",
    "bool_type": "must be true or false",
    "string_type": "must be text",
    "tuple_type": "must be a list",
    "dict_type": "must be a mapping of keys to values",
    "missing": "required key is missing",
    "extra_forbidden": "unknown key",
    "finite_number": "must be finite",
    "model_type": "must be a mapping of keys to values",
    "model_attributes_type": "must be a mapping of keys to values",
    "dataclass_type": "must be a mapping of keys to values",
}
_MAPPINGS = ("model_type", "model_attributes_type", "dataclass_type", "dict_type")


def explained(part: Part, value: Any, place: KeyPath, item: Any) -> Iterator[Said]:
    """Say what is wrong at a place of a part; rules of a dataclass's own name the fields below."""
    kind, got = item["type"].replace("unexpected_keyword_argument", "extra_forbidden"), item["input"]
    table = TABLES.get(str(place[0])) if place else None
    if kind.startswith("union_tag") or (kind == "literal_error" and place[-1:] and place[-1] in part.names):
        yield from _unknown_name(part, value, place)
    elif table and len(place) < 3 and kind in ("extra_forbidden", *_MAPPINGS):
        name = place[1] if len(place) > 1 else got
        if kind in _MAPPINGS and len(place) == 2:  # the right name with something that is no mapping
            yield place, _RULES[kind], got, ""
        else:
            yield place, f"unknown {table[1]}", name, meant(name, list(table[0]))
    elif kind == "extra_forbidden":
        cls: Any = table[0][str(place[1])] if table else part.classes[""]
        yield place, "unknown key", ABSENT, meant(place[-1], list(annotations(cls)), place, got)
    elif kind == "value_error" and (error := item["ctx"]["error"]) and hasattr(error, "problems"):
        for field, rule, broken in error.problems:
            head, _, index = field.partition("[")
            yield (*place, head, int(index[:-1])) if index else (*place, head), rule, broken, ""
    else:
        yield place, _rule(part, place, item), ABSENT if kind == "missing" else got, ""


def _unknown_name(part: Part, value: Any, place: KeyPath) -> Iterator[Said]:
    field = str(place[-1]) if place[-1:] and place[-1] in part.names else next(iter(part.names))
    if not isinstance(value, dict) or field not in value:
        yield (field,), "required key is missing", ABSENT, ""
        return
    what, table = part.names[field]
    yield (field,), f"unknown {what}", value[field], meant(value[field], list(table))


def _rule(part: Part, place: KeyPath, item: Any) -> str:
    """Write the bound that a value breaks as the field's own rule."""
    annotation = _annotation(part, place)
    name = str(next((key for key in reversed(place) if isinstance(key, str)), part and "seed"))
    shown = name if not place or isinstance(place[-1], str) else f"{name}[{place[-1]}]"
    if item["type"].startswith(("greater_than", "less_than")):
        return next(bound.rule(shown) for bound in ranges_of(annotation) if not bound.holds(item["input"]))
    if item["type"] == "literal_error":
        return f"{name} must be one of {', '.join(repr(choice) for choice in choices_of(annotation))}"
    said = item["msg"][:1].lower() + item["msg"][1:]
    return str(_RULES.get(item["type"], said))


def _annotation(part: Part, place: KeyPath) -> Any:
    if place and place[0] in TABLES and len(place) > 2:
        return annotations(TABLES[str(place[0])][0][str(place[1])])[str(place[2])]
    return part.keys(None)[str(place[0])] if place else field_type(("seed",))
