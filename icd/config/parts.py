"""Reads one part of a document after the other: pydantic checks the fields, dataclasses the rules between them."""

import json
from collections.abc import Sequence
from dataclasses import MISSING, fields
from typing import Any

from pydantic import BaseModel, ValidationError

from icd.config.document import ABSENT, Document, KeyPath
from icd.config.habits import about_value, meant, owners
from icd.config.schema import TABLES, Part, field_type
from icd.config.sentences import explained
from icd.config.training import PRESETS, TrainingConfig
from icd.errors import Problem
from icd.fields import FieldError, annotations

_ROUNDS = 4  # a part is read again without what was wrong


class PartReader:
    """Reads parts and notes every problem; what is wrong is left out, so that the reading can go on.

    Attributes:
        document: What is read.
        problems: What was wrong so far.
        wrong: Where that was; no rule may build on it.
    """

    def __init__(self, document: Document) -> None:
        self.document = document
        self.problems: list[Problem] = []
        self.wrong: set[KeyPath] = set(document.broken)
        self.unsure: set[KeyPath] = set()  # parts with a mode that is unknown

    def values(self, part: Part, value: Any, path: KeyPath) -> Any:
        """Check a part; give its fields, those that were wrong at their defaults, or None where nothing can be read."""
        again = value
        for _ in range(_ROUNDS):
            try:
                # Through JSON, because strict means "a list is fine for a tuple, '3' is not fine for 3" there only.
                found = part.adapter.validate_json(json.dumps(again))
            except ValidationError as error:
                places = [self._explain(part, again, path, item) for item in error.errors(include_url=False)]
                again = _without(part, again, places)
                if again is None:
                    break
            else:
                return dict(found) if isinstance(found, BaseModel) else found
        self.wrong.add(path)
        return None

    def _explain(self, part: Part, value: Any, path: KeyPath, item: Any) -> KeyPath:
        """Note what pydantic says of a place; give the place in the part."""
        place: KeyPath = tuple(item["loc"])
        if len(part.classes) > 1 and isinstance(value, dict) and place[:1] == (value.get("name"),):
            place = place[1:]
        if item["type"] == "missing" and (*path, *place) in self.wrong:
            return place  # it was wrong, and was left out
        self.wrong.add((*path, *place))
        if item["type"] == "literal_error":  # who knows which rules hold then
            self.unsure.add(path)
        if item["type"] == "extra_forbidden" and len(place) == 1:
            allowed = [*part.keys(value.get("name")), *({"recipe"} if "scales" in part.keys(None) else ())]
            allowed += ["preset"] if "epochs" in allowed else ["training"] if "weights" in allowed else []
            self.unknown_keys({str(place[0]): value[place[0]]}, allowed, path)
            return place
        for inner, rule, got, hint in explained(part, value, place, item):
            where = (*path, *inner)
            habit = (
                ""
                if got is ABSENT
                else about_value(
                    self.document.place(where), got, field_type(where), searched=self.document.file is not None
                )
            )
            self.note(where, rule, value=got, hint=habit or hint)
        return place

    def made(self, cls: Any, values: dict[str, Any], path: KeyPath) -> Any:
        """Build the dataclass, or note the rules between fields that it breaks, unless one of them is wrong itself."""
        names = annotations(cls)
        try:
            return cls(**{name: value for name, value in values.items() if name in names})
        except FieldError as error:
            mistaken = {
                str(place[len(path)]) for place in self.wrong if len(place) > len(path) and place[: len(path)] == path
            }
            for field, rule, value in error.problems if path not in self.unsure else ():
                if not any(name in f"{field} {rule}" for name in mistaken):
                    head, _, index = field.partition("[")
                    self.note((*path, head, int(index[:-1])) if index else (*path, head), rule, value=value)
            self.wrong.add(path)
            return None

    def right(self, *paths: KeyPath) -> bool:
        """Whether all these could be read as they stand."""
        return not any(old[: len(path)] == path or path[: len(old)] == old for path in paths for old in self.wrong)

    def note(self, path: KeyPath, rule: str, *, value: object = ABSENT, hint: str = "") -> None:
        """Note a problem at a path."""
        self.problems.append(self.document.problem(path, rule, value=value, hint=hint))

    def unknown(self, path: KeyPath, what: str, name: object, allowed: Sequence[str]) -> None:
        """Note a name that is in no table, with the one that may be meant."""
        self.note(path, f"unknown {what}", value=name, hint=meant(name, allowed))

    def unknown_keys(self, data: dict[str, Any], allowed: Sequence[str], path: KeyPath) -> None:
        """Note each key that is not allowed."""
        for key in data:
            if key not in allowed:
                others = owners(key) if path == ("method",) else []
                hint = f"it is a field of {' and '.join(others)}" if others else meant(key, allowed, path, data[key])
                self.note((*path, key), "unknown key", hint=hint)


def _without(part: Part, value: Any, places: Sequence[KeyPath]) -> Any:
    """Leave out what is wrong, and put a name that is known where one is needed; None where that does not help."""
    if not isinstance(value, dict):
        return None
    found = {name: item for name, item in value.items() if not any(place == (name,) for place in places)}
    for place in places:
        head = place[0] if place else "name"
        if head == "name" and len(part.classes) > 1:
            names = list(part.classes)
            found["name"] = min(names, key=lambda name: sum(key not in part.keys(name) for key in value))
        elif head in part.names:
            found[str(head)] = next(iter(part.names[str(head)][1]))
        elif head in TABLES and len(place) > 2 and isinstance(found.get(head), dict):
            inner = found[head].get(place[1])
            kept = {key: item for key, item in inner.items() if key != place[2]} if isinstance(inner, dict) else {}
            found[head] = {place[1]: kept}
            if kept == inner:  # a required field is missing there
                del found[head]
        else:
            found.pop(head, None)
    for field in fields(TrainingConfig) if "epochs" in part.keys(None) else ():
        if field.default is MISSING:
            found.setdefault(field.name, PRESETS["cifar100"][field.name])
    return found
