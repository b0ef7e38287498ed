"""Reads a trial's file: short forms are written out, pydantic checks every field, and rules between the parts follow.

Every mistake is found in one reading. What is wrong is left out and the reading goes on without it; a rule that would
need it says nothing.
"""

import json
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from icd.config.checks import Known, advice, between_parts, class_problems
from icd.config.document import ABSENT, Document, KeyPath, in_order
from icd.config.expand import with_preset, with_row
from icd.config.forms import full_form
from icd.config.habits import about_file, about_value, meant
from icd.config.protocols import PRESETS, Protocol
from icd.config.schema import PARTS, TABLES, Part, field_type
from icd.config.sentences import explained
from icd.config.trial import DataConfig, NetworkConfig, TeacherConfig, TrialConfig
from icd.config.yaml import apply_overrides, read_yaml
from icd.data import DATASETS
from icd.errors import ConfigError, Problem
from icd.fields import FieldError, annotations
from icd.methods import METHODS, PAPER_ROWS
from icd.models import MODELS

__all__ = ["advice", "check_trial", "class_problems", "load_trial", "read_trial"]

TOP = ("data", "student", "teacher", "method", "protocol", "seed")
_ROUNDS = 4  # a part is read again without what was wrong


def load_trial(path: Path, overrides: Sequence[str] = ()) -> TrialConfig:
    """Read a trial's file with ``--set`` overrides laid over it.

    Raises:
        ConfigError: With every problem of the file.
    """
    document = read_yaml(path)
    return read_trial(apply_overrides(document, overrides) if overrides else document)


def read_trial(document: Document) -> TrialConfig:
    """Turn a document into a configuration.

    Raises:
        ConfigError: With every problem, in the order of the file.
    """
    config, problems = check_trial(document)
    if problems or config is None:
        raise ConfigError(in_order(problems))
    return config


def check_trial(document: Document) -> tuple[TrialConfig | None, list[Problem]]:
    """Give a configuration, or None and every problem."""
    problems = list(document.problems)
    if not isinstance(document.data, dict):
        return None, [*problems, document.problem((), "must be a mapping of keys to values", value=document.data)]
    if (wrong := about_file(document, "trial")) is not None:
        return None, [wrong]
    reader = _TrialReader(document)
    config = reader.read(document.data)
    problems += reader.problems
    return (None if problems else config), problems


class _TrialReader:
    def __init__(self, document: Document) -> None:
        self.document = document
        self.problems: list[Problem] = []
        self.unsure: set[KeyPath] = set()  # parts with a mode that is unknown
        self.stems: dict[str, str] = {}  # as the file has them
        self.wrong: set[KeyPath] = set(document.broken)  # what was left out, and no rule may build on

    def read(self, data: dict[str, Any]) -> TrialConfig | None:
        self._unknown_keys(data, [*TOP, "fingerprint"], ())
        for name in ("student", "method"):
            if data.get(name) is None:
                self._note((name,), "required key is missing")
        if data.get("fingerprint") is not None:  # no part of the configuration
            self._values("fingerprint", data["fingerprint"], ("fingerprint",))
        images = self._data(data.get("data", "digits100"))
        student = self._network("student", data.get("student"))
        teacher = self._network("teacher", data.get("teacher"))
        method = self._method(data["method"]) if data.get("method") is not None else None
        protocol = self._protocol(data.get("protocol"), images, data.get("student"), ("protocol",))
        taught = data["teacher"].get("protocol") if isinstance(data.get("teacher"), dict) else None
        of_teacher = None
        if data.get("teacher") is not None:
            of_teacher = self._protocol(taught, images, data["teacher"], ("teacher", "protocol"))
        seed = self._values("seed", data.get("seed", 0), ("seed",))
        known = Known(
            document=self.document,
            wrong=frozenset(self.wrong),
            stems=self.stems,
            images=images,
            student=student,
            teacher=teacher,
            method=method,
            protocol=protocol,
            of_teacher=of_teacher,
        )
        more, student, teacher = between_parts(known)
        self.problems += more
        if self.problems:
            return None
        return TrialConfig(
            data=images,  # type: ignore[arg-type] - what is None has a problem
            student=student,  # type: ignore[arg-type]
            method=method,
            protocol=protocol,  # type: ignore[arg-type]
            teacher=teacher if method.needs_teacher else None,
            seed=seed,
        )

    # Parts

    def _data(self, data: Any) -> DataConfig | None:
        values = self._values("data", full_form("data", data), ("data",))
        if values is None:
            return None
        row = DATASETS[values["name"]]
        options = tuple(sorted((name, values.pop(name)) for name in row.options if name in values))
        given = data if isinstance(data, dict) else {}
        options = tuple((name, value) for name, value in options if name in given)
        return self._made(DataConfig, {**values, "options": options}, ("data",))

    def _network(self, part: str, data: Any) -> Any:
        if data is None:
            return None
        value = full_form(part, data)
        if part == "teacher" and isinstance(value, dict):
            value = {name: item for name, item in value.items() if name != "protocol"}
        values = self._values(part, value, (part,))
        if values is not None:  # which stem it is depends on the images
            self.stems[part], values["stem"] = values["stem"], MODELS[values["arch"]].stems[0]
        return (
            None
            if values is None
            else self._made(NetworkConfig if part == "student" else TeacherConfig, values, (part,))
        )

    def _protocol(self, data: Any, images: DataConfig | None, network: Any, path: KeyPath) -> Protocol | None:
        named = full_form("protocol", {} if data is None else data)
        if isinstance(named, dict) and "preset" in named and not _is_key(named["preset"], PRESETS):
            self._unknown((*path, "preset"), "preset", named["preset"], list(PRESETS))
            self.wrong.add(path)
        values = self._values("protocol", with_preset(data, images.name if images else "", network), path)
        return None if values is None else self._made(Protocol, values, path)

    def _method(self, data: Any) -> Any:
        path: KeyPath = ("method",)
        named = full_form("method", data)
        if isinstance(named, dict):
            if "row" in named and "name" in named:
                rule = "give a row to start from or a name, not both"
                self._note((*path, "row"), rule, value=named["row"])
                named = {name: value for name, value in named.items() if name != "row"}
            if "row" in named and not _is_key(named["row"], PAPER_ROWS):
                self._unknown((*path, "row"), "row", named["row"], [*PAPER_ROWS, *METHODS])
                self.wrong.add(path)
        values = self._values("method", with_row(named), path)
        return None if values is None else self._made(METHODS[values.pop("name")], values, path)

    # Fields

    def _values(self, name: str, value: Any, path: KeyPath) -> Any:
        """Check a part; give its fields, those that were wrong at their defaults, or None where nothing can be read."""
        part, again = PARTS[name], value
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
                return dict(found) if name not in ("seed", "fingerprint") else found
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
            allowed = [*part.keys(value.get("name")), *({"row"} if "scales" in part.keys(None) else ())]
            allowed += ["preset"] if "epochs" in allowed else ["protocol"] if "weights" in allowed else []
            self._unknown_keys({str(place[0]): value[place[0]]}, allowed, path)
            return place
        for inner, rule, got, hint in explained(part, value, place, item):
            where = (*path, *inner)
            habit = "" if got is ABSENT else about_value(self.document.place(where), got, field_type(where))
            self._note(where, rule, value=got, hint=habit or hint)
        return place

    def _made(self, cls: Any, values: dict[str, Any], path: KeyPath) -> Any:
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
                    self._note((*path, head, int(index[:-1])) if index else (*path, head), rule, value=value)
            self.wrong.add(path)
            return None

    # Notes

    def _note(self, path: KeyPath, rule: str, *, value: object = ABSENT, hint: str = "") -> None:
        self.problems.append(self.document.problem(path, rule, value=value, hint=hint))

    def _unknown(self, path: KeyPath, what: str, name: object, allowed: Sequence[str]) -> None:
        self._note(path, f"unknown {what}", value=name, hint=meant(name, allowed))

    def _unknown_keys(self, data: dict[str, Any], allowed: Sequence[str], path: KeyPath) -> None:
        for key in data:
            if key not in allowed:
                self._note((*path, key), "unknown key", hint=meant(key, allowed, path, data[key]))


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
        elif head == "arch":
            found["arch"] = next(iter(MODELS))
        elif head in TABLES and len(place) > 2 and isinstance(found.get(head), dict):
            inner = found[head].get(place[1])
            kept = {key: item for key, item in inner.items() if key != place[2]} if isinstance(inner, dict) else {}
            found[head] = {place[1]: kept}
            if kept == inner:  # a required field is missing there
                del found[head]
        else:
            found.pop(head, None)
    for field in fields(Protocol) if "epochs" in part.keys(None) else ():
        if field.name in PRESETS["cifar100"]:
            found.setdefault(field.name, PRESETS["cifar100"][field.name])
    return found


def _is_key(name: Any, table: Any) -> bool:
    return isinstance(name, str) and name in table
