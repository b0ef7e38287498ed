"""Reads parts of a document as the fields of dataclasses: pydantic checks each value, the dataclass the rules between.

The dataclasses and tables of the layers below are the only description of a file. The JSON Schema (json_schema.py)
follows from the same annotations.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import MISSING, fields
from functools import cache
from typing import Annotated, Any, get_type_hints

from pydantic import ConfigDict, StringConstraints, TypeAdapter, ValidationError

from icd.config.document import Document, KeyPath, in_order
from icd.config.habits import about_file, about_value, meant
from icd.config.training import TrainingConfig
from icd.config.trial import DataConfig, NetworkConfig, TeacherConfig, TrialConfig
from icd.data import DATASETS
from icd.data.views import VIEW_FAMILIES
from icd.errors import Absent, ConfigError, Problem, is_close
from icd.fields import FieldError, annotations, choices_of, ranges_of
from icd.losses import BASE_LOSSES
from icd.methods import METHODS
from icd.registry import Registry

MAPPING = "must be a mapping of keys to values"
UNKNOWN_KEY = "unknown key"
MISSING_KEY = "required key is missing"
NAME = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]
NAME_RULE = "must be 1 to 64 letters, digits, '.', '_' or '-', the first a letter or digit"
WRONG: Any = object()  # a value whose mistake was noted


# Fields whose value is ``{name: {field: value}}``, one of several dataclasses.
TAGGED: Mapping[str, Registry[Any]] = {"base_loss": BASE_LOSSES, "augmentation": VIEW_FAMILIES}
_RULES = {
    "float_type": "must be a number",
    "int_type": "must be a whole number",
    "int_from_float": "must be a whole number",
    "int_parsing_size": "must be a whole number with at most 4300 digits",
    "bool_type": "must be true or false",
    "string_type": "must be text",
    "tuple_type": "must be a list",
    "dict_type": MAPPING,
    "finite_number": "must be finite",
}


def option_types(name: str) -> Mapping[str, Any]:
    """Give the types of a data set's own options, bounds included."""
    row = DATASETS[name]
    hints = get_type_hints(row.load, include_extras=True)
    return {option: hints[option] for option in row.options}


def keys_of(part: str, name: str) -> Mapping[str, Any]:
    """Give the keys of a data set or a method, with their types."""
    if part == "method":
        return annotations(METHODS[name])
    own = {key: kind for key, kind in annotations(DataConfig).items() if key != "options"}
    return {**own, **option_types(name)}


def field_type(path: KeyPath) -> Any:
    """Give the type of the field at a path of a trial, bounds included; None where there is no such field."""
    part, *names = (str(name) for name in path if isinstance(name, str))
    if (part, *names[:1]) == ("teacher", "training"):
        part, names = names[0], names[1:]
    if not names:
        return annotations(TrialConfig)["seed"] if part == "seed" else None
    if names[0] in TAGGED and len(names) > 2:
        cls = TAGGED[names[0]].get(names[1])
        return annotations(cls).get(names[2]) if cls else None
    classes: dict[str, Any] = {"student": NetworkConfig, "teacher": TeacherConfig, "training": TrainingConfig}
    tables = METHODS.values() if part == "method" else [classes[part]] if part in classes else ()
    return next((annotations(cls)[names[0]] for cls in tables if names[0] in annotations(cls)), None)


@cache
def needed(cls: Any) -> list[str]:
    """Name the fields of a dataclass that have no default."""
    return [field.name for field in fields(cls) if field.default is field.default_factory is MISSING]


@cache
def _adapter(kind: Any) -> TypeAdapter[Any]:
    return TypeAdapter(kind, config=ConfigDict(strict=True, allow_inf_nan=False))


class Reader:
    """Reads parts and notes every problem; what is wrong is left out, so that the reading can go on."""

    def __init__(self, document: Document) -> None:
        self.document = document
        self.problems: list[Problem] = []
        self.wrong: set[KeyPath] = set(document.broken)  # no rule may build on these

    def read(self, data: dict[str, Any]) -> Any:
        """Give what the data of a file say; parts that are wrong may be missing from it."""
        raise NotImplementedError

    def whole(self, kind: str) -> Any:
        """Read the document as a file of a kind, ``trial`` or ``sweep``.

        Raises:
            ConfigError: With every problem, in the order of the file.
        """
        document = self.document
        if not isinstance(document.data, dict):
            raise ConfigError([*document.problems, document.problem((), MAPPING, value=document.data)])
        if (wrong := about_file(document, kind)) is not None:
            raise ConfigError(wrong)
        made = self.read(document.data)
        problems = [*document.problems, *self.problems]
        if any(problem.path.startswith("plugins[") for problem in problems):  # what that plugin adds is unknown then
            problems = [item for item in problems if item.rule == UNKNOWN_KEY or not item.rule.startswith("unknown ")]
        if problems:
            raise ConfigError(in_order(problems))
        return made

    def fields(
        self,
        cls: Any,
        data: Any,
        path: KeyPath,
        kinds: Mapping[str, Any] | None = None,
        *,
        instead: Mapping[str, Any] | None = None,
        also: Iterable[str] = (),
    ) -> dict[str, Any] | None:
        """Read a mapping as the fields of a dataclass, which says which may be missing; None where it is no mapping.

        Wrong fields are left out, but for required ones that have a value ``instead``. ``kinds`` are keys with their
        types, where they are not the dataclass's own, and ``also`` keys that were read already.
        """
        kinds, instead = annotations(cls) if kinds is None else kinds, instead or {}
        if not isinstance(data, dict):
            self.refuse(path, MAPPING, data)
            return None
        required, found = needed(cls), dict[str, Any]()
        for name, kind in kinds.items():
            kind, where = TAGGED.get(name, kind), (*path, name)
            value = self.value(kind, data[name], where) if name in data else WRONG
            if value is WRONG and name in required and name in instead:
                value = instead[name] if not isinstance(kind, Registry) else self.value(kind, instead[name], where)
            if value is not WRONG:
                found[name] = value
        self.unknown_keys(data, [*kinds, *also], path)
        for name in required:
            if name in kinds and name not in data and (*path, name) not in self.wrong:
                cut = self.document.place((*path, name))[-1:] != (name,)  # a short form has no place for it
                self.refuse((*path, name), f"required key {name!r} is missing" if cut else MISSING_KEY)
        return found

    def value(self, kind: Any, value: Any, path: KeyPath) -> Any:
        """Read one value; ``kind`` is an annotation, or a table of which it names a row."""
        if isinstance(kind, Registry):
            return self._row(kind, value, path)
        try:
            # Through JSON, because strict means "a list is fine for a tuple, '3' is not fine for 3" there only.
            return _adapter(kind).validate_json(json.dumps(value))
        except ValidationError as error:
            for item in error.errors(include_url=False):
                place = (*path, *item["loc"])
                self.refuse(place, _rule(kind, place, item), item["input"], kind)
            return WRONG

    def _row(self, table: Registry[Any], value: Any, path: KeyPath) -> Any:
        tagged, place, name, inner = any(table is one for one in TAGGED.values()), path, value, None
        if tagged and isinstance(value, dict):
            if len(value) != 1:
                self.refuse(path, f"must name one {table.what}, as in {{{next(iter(table))}: {{}}}}", value)
                return WRONG
            ((name, inner),) = value.items()
            place = (*path, name)
        if not isinstance(name, str) or name not in table:
            self.refuse(place, f"unknown {table.what}", name, hint=meant(name, table.like(name)))
            return WRONG
        if not tagged:
            return name
        cls, where = table[name], (*path, name)
        values = self.fields(cls, {} if inner is None else inner, where)
        made = None if values is None else self.made(cls, values, where)
        return WRONG if made is None else made

    def name(self, table: Registry[Any], data: Any, path: KeyPath) -> str | None:
        """Read the name that says which keys a part has; the likeliest one where it is wrong or missing."""
        if not isinstance(data, dict):
            self.refuse(path, MAPPING, data)
            return None
        where = (*path, "name")
        if "name" not in data and where not in self.wrong and not any(is_close(key, "name") for key in data):
            self.refuse(where, MISSING_KEY)
        elif "name" in data and self.value(table, data["name"], where) is not WRONG:
            return str(data["name"])
        self.wrong.add(path)
        return min(table, key=lambda name: sum(key not in keys_of(str(path[0]), name) for key in data))

    def made(self, cls: Any, values: Mapping[str, Any], path: KeyPath) -> Any:
        """Build the dataclass, or note the rules between fields that it breaks, unless one of them is wrong itself."""
        try:
            if values.keys() >= set(needed(cls)):
                return cls(**{name: values[name] for name in annotations(cls) if name in values})
        except FieldError as error:
            mistaken = {str(place[len(path)]) for place in self.wrong if place[: len(path)] == path != place}
            for field, rule, value in error.problems:
                if not any(name in f"{field} {rule}" for name in mistaken):
                    head, _, index = field.partition("[")
                    place = (*path, head, int(index[:-1])) if index else (*path, head)
                    self.note(place, rule, value=value)
        self.wrong.add(path)
        return None

    def right(self, *paths: KeyPath) -> bool:
        """Whether all these could be read as they stand."""
        return not any(old[: len(path)] == path or path[: len(old)] == old for path in paths for old in self.wrong)

    def refuse(self, path: KeyPath, rule: str, value: object = Absent, kind: Any = None, *, hint: str = "") -> None:
        """Note that a value cannot be taken, with the habit behind it where it is a known one."""
        self.wrong.add(path)
        if value is not Absent:
            searched = self.document.file is not None
            hint = about_value(self.document.place(path), value, kind, searched=searched) or hint
        self.note(path, rule, value=value, hint=hint)

    def note(self, path: KeyPath, rule: str, *, value: object = Absent, hint: str = "") -> None:
        """Note a problem at a path."""
        self.problems.append(self.document.problem(path, rule, value=value, hint=hint))

    def unknown_keys(self, data: Mapping[str, Any], allowed: Sequence[str], path: KeyPath) -> None:
        """Note each key that is not allowed; the one that it may be meant for is not told to be missing."""
        for key in data:
            if key not in allowed:
                methods = METHODS.items() if path == ("method",) else ()
                others = [name for name, cls in methods if key in annotations(cls)]
                hint = f"it is a field of {' and '.join(others)}" if others else meant(key, allowed, path, data[key])
                meant_for = [name for name in allowed if name not in data and is_close(key, name)]
                self.wrong |= {(*path, name) for name in (key, *meant_for)}
                self.problems.append(self.document.problem(path, UNKNOWN_KEY, key=(key,), hint=hint))


def _rule(kind: Any, place: KeyPath, item: Any) -> str:
    """Say what pydantic found in the words of a rule: ``epochs >= 1 must hold``."""
    name = next(key for key in reversed(place) if isinstance(key, str))
    if item["type"].startswith(("greater_than", "less_than")):
        shown = name if isinstance(place[-1], str) else f"{name}[{place[-1]}]"
        return next(bound.rule(shown) for bound in ranges_of(kind) if not bound.holds(item["input"]))
    if kind is NAME:
        return "must be text: quote it" if isinstance(item["input"], int | float) else NAME_RULE
    if item["type"] == "literal_error":
        return f"{name} must be one of {', '.join(repr(choice) for choice in choices_of(kind))}"
    said: str = item["msg"][:1].lower() + item["msg"][1:]
    return _RULES.get(item["type"], said)
