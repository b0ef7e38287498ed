"""From plain YAML data to frozen dataclasses, with every problem of the file found in one pass.

Types are checked by pydantic at this edge only; ranges come from the fields themselves (``icd/fields.py``), so that the
values below this layer are plain dataclasses and import nothing.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, Field, fields
from functools import cache
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from icd.config.yaml import Document, dotted
from icd.errors import ConfigError, Problem, did_you_mean
from icd.fields import FieldError, FieldProblem, annotations, choices_of, field_problems

Path = tuple[str | int, ...]
T = TypeVar("T")
Nested = Callable[[Any, Path], Any]

_LONGEST_HINT = 240  # characters; with a long name and a long value the line stays below 400
_UNREADABLE = object()  # a value that was reported; stands in for it so that reading can go on


class Reader:
    """Reads one document; problems pile up until ``finish`` raises them together."""

    def __init__(self, document: Document) -> None:
        self.document = document
        self.problems: list[Problem] = []

    def problem(self, path: Path, rule: str, *, value: object = _UNREADABLE, hint: str = "") -> None:
        """Note one problem at a path of the document."""
        source, line = self.document.origin(path)
        has_value = value is not _UNREADABLE
        self.problems.append(
            Problem(
                rule=rule,
                source=source,
                line=line,
                path=dotted(path),
                value=value if has_value else None,
                has_value=has_value,
                hint=hint,
            )
        )

    def finish(self) -> None:
        """Raise a ``ConfigError`` with everything noted, in the order of the file."""
        if self.problems:
            raise ConfigError(sorted(self.problems, key=lambda problem: (problem.source, problem.line or 0)))

    def mapping(self, data: Any, path: Path) -> dict[str, Any] | None:
        """Give the mapping at a path, or note that it is none."""
        if isinstance(data, dict):
            return data
        self.problem(path, "must be a mapping of keys to values", value=data)
        return None

    def unknown_keys(self, data: Mapping[str, Any], allowed: Sequence[str], path: Path) -> None:
        """Note every key that is not allowed, each with the name that was probably meant."""
        for key in data:
            if key not in allowed:
                self.problem((*path, key), "unknown key", hint=_meant(key, allowed))

    def choice(self, name: Any, table: Mapping[str, T], path: Path, what: str) -> T | None:
        """Look a name up in a table, or note what could have been meant."""
        if isinstance(name, str) and name in table:
            return table[name]
        self.problem(path, f"unknown {what}", value=name, hint=_meant(name, list(table)))
        return None

    def value(self, cls: type[T], data: Any, path: Path, nested: Mapping[str, Nested] | None = None) -> T | None:
        """Build a dataclass from a mapping; None when anything in it is wrong.

        Args:
            cls: A frozen dataclass; its fields are the schema.
            data: What the file says.
            path: Where it says so.
            nested: Readers of the fields that are values of their own.
        """
        mapping = self.mapping(data, path)
        if mapping is None:
            return None
        before = len(self.problems)
        schema: Any = cls  # a dataclass, which T cannot say
        self.unknown_keys(mapping, list(annotations(schema)), path)
        for field in fields(schema):
            if field.name not in mapping and _is_required(field):
                self.problem((*path, field.name), "required key is missing")
        values = self.read_fields(cls, mapping, path, nested)
        return None if len(self.problems) > before else self.construct(cls, values, path)

    def read_fields(
        self, cls: type, mapping: Mapping[str, Any], path: Path, nested: Mapping[str, Nested] | None = None
    ) -> dict[str, Any]:
        """Read the fields a mapping names, types and ranges checked; those that are wrong are left out."""
        values = {}
        for name, annotation in annotations(cls).items():
            if name not in mapping:
                continue
            data, inner_path = mapping[name], (*path, name)
            read = (nested or {}).get(name)
            value = read(data, inner_path) if read else self._plain(annotation, data, inner_path)
            if value is not _UNREADABLE:
                values[name] = value
        for problem in field_problems(cls, values):
            self._field_problem(path, problem)
        return values

    def one_field(self, cls: type, name: str, data: Any, path: Path, nested: Nested | None = None) -> bool:
        """Check a field's value that stands anywhere, as in a list of choices; False when it is wrong."""
        before = len(self.problems)
        value = nested(data, path) if nested else self._plain(annotations(cls)[name], data, path)
        if len(self.problems) == before:
            for problem in field_problems(cls, {name: value}):
                self.problem((*path, *_field_path(problem.field)[1:]), problem.rule, value=problem.value)
        return len(self.problems) == before

    def construct(self, cls: type[T], values: Mapping[str, Any], path: Path) -> T | None:
        """Build the value, or note the rules between fields that it breaks."""
        try:
            return cls(**values)
        except FieldError as error:
            for problem in error.problems:
                self._field_problem(path, problem)
        except ValueError as error:
            self.problem(path, str(error))
        return None

    def _field_problem(self, path: Path, problem: FieldProblem) -> None:
        self.problem((*path, *_field_path(problem.field)), problem.rule, value=problem.value)

    def tagged(self, table: Mapping[str, type[T]], data: Any, path: Path, what: str) -> T | None:
        """Build one of several dataclasses from ``name`` or ``{name: {field: value}}``."""
        if isinstance(data, dict) and len(data) != 1:
            self.problem(path, f"must name one {what}, as in {{{next(iter(table))}: {{}}}}", value=data)
            return None
        name, inner = next(iter(data.items())) if isinstance(data, dict) else (data, None)
        inner_path = (*path, name) if isinstance(data, dict) else path
        cls = self.choice(name, table, inner_path, what)
        return None if cls is None else self.value(cls, {} if inner is None else inner, inner_path)

    def _plain(self, annotation: Any, data: Any, path: Path) -> Any:
        try:
            # Through JSON, because strict means "a list is fine for a tuple, '3' is not fine for 3" there only.
            return _adapter(annotation).validate_json(json.dumps(data), strict=True)
        except ValidationError as error:
            for place, rule, value in _explain(annotation, error):
                self.problem((*path, *place), rule, value=value)
        return _UNREADABLE


@cache
def _adapter(annotation: Any) -> TypeAdapter[Any]:
    return TypeAdapter(annotation)


_RULES = {
    "float_type": "must be a number",
    "int_type": "must be a whole number",
    "int_from_float": "must be a whole number",
    "int_parsing_size": "must be a whole number of at most 4300 digits",
    "bool_type": "must be true or false",
    "string_type": "must be text",
    "tuple_type": "must be a list",
    "list_type": "must be a list",
    "dict_type": "must be a mapping of keys to values",
    "finite_number": "must be finite",
    "none_required": "must be null",
}


def _explain(annotation: Any, error: ValidationError) -> list[tuple[Path, str, object]]:
    """One line per place; the branches of a union are one place with several rules."""
    rules: dict[Path, list[str]] = {}
    values: dict[Path, object] = {}
    for item in error.errors(include_url=False, include_context=False):
        place = tuple(part for part in item["loc"] if isinstance(part, int))
        if item["type"] == "literal_error":
            rule = "must be one of " + ", ".join(repr(choice) for choice in choices_of(annotation))
        else:
            rule = _RULES.get(item["type"], item["msg"][:1].lower() + item["msg"][1:])
        rules.setdefault(place, [])
        if rule not in rules[place]:
            rules[place].append(rule)
        values[place] = item["input"]
    return [(place, " or ".join(found), values[place]) for place, found in rules.items()]


_WORDS_THAT_WENT = {
    "trials_per_process": "let trials share a GPU with gpus_per_trial: 0.25, and start NVIDIA MPS so that they overlap",
}


def _meant(name: object, allowed: Sequence[str]) -> str:
    """Say which name is meant; a list of all too long for a line is cut."""
    if isinstance(name, str) and name in _WORDS_THAT_WENT:
        return _WORDS_THAT_WENT[name]
    hint = did_you_mean(name, allowed)
    if len(hint) <= _LONGEST_HINT:
        return hint
    return f"{hint[:_LONGEST_HINT].rpartition(',')[0]}, ... ({len(allowed)} in all)"


def _field_path(name: str) -> Path:
    """Split ``scales[1]`` into ``("scales", 1)``."""
    head, _, index = name.partition("[")
    return (head, int(index[:-1])) if index else (head,)


def _is_required(field: Field[Any]) -> bool:
    return field.default is MISSING and field.default_factory is MISSING


def read_whole(document: Document, build: Callable[[Reader, dict[str, Any]], T | None]) -> T:
    """Build one value of a whole document; every problem is found before any is raised.

    Args:
        document: To be a mapping.
        build: Notes problems with the reader; may give None only where it noted one.

    Raises:
        ConfigError: With every problem.
    """
    reader = Reader(document)
    data = reader.mapping(document.data, ())
    built = build(reader, data) if data is not None else None
    reader.finish()
    if built is None:
        raise AssertionError("what cannot be built is a problem")
    return built
