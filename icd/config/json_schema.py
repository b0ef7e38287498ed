"""JSON Schema of trial and sweep files: what editors complete and check, from the dataclasses and their docstrings.

A schema knows types, ranges, names and defaults. Rules between the parts of a file are checked when it is read.
``python -m icd.config.json_schema`` writes the two files beside this module, which ``icd schema`` prints.
"""

import inspect
import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import MISSING, fields
from functools import cache, partial
from pathlib import Path
from typing import Any, Literal, get_args

from pydantic import TypeAdapter

from icd.config.forms import WEIGHTS
from icd.config.read_template import numbers_of
from icd.config.reader import TAGGED, keys_of
from icd.config.sweep import METRICS, RANK_NAMES, Budget, Objective, PrunerConfig, Resources, SamplerConfig, Source
from icd.config.training import PRESETS, TrainingConfig
from icd.config.trial import DataConfig, NetworkConfig, TeacherConfig, TrialConfig, plain_data
from icd.data import DATASETS
from icd.fields import annotations
from icd.methods import METHODS, PAPER_ROWS, CellDistillation
from icd.models import MODELS

Schema = dict[str, Any]
Kind = Literal["trial", "sweep"]

NAME: Schema = {"type": "string", "pattern": "^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"}
_TEXT: Schema = {"type": "string"}
_SCALES: Schema = {"type": "array", "items": {"type": "integer", "minimum": 1}, "uniqueItems": True}
_ENTRY = re.compile(r"^(\w+): (.*)$")


def schema_of(kind: Kind) -> Schema:
    """Give the schema of a trial's or a sweep's file."""
    made = _Schemas(ranges=kind == "sweep")
    what = "a sweep's file: a trial's, with ranges and choices in it" if made.ranges else "a trial's file"
    found = made.sweep() if made.ranges else made.trial()
    about = {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": f"icd: {what}"}
    return {**about, **found, "$defs": made.defs}


def text_of(kind: Kind) -> str:
    """Write the schema, a line for each definition and each key of the file."""
    schema = schema_of(kind)
    parts = {name: schema.pop(name) for name in ("properties", "$defs")}
    lines = [json.dumps(schema)[:-1]]
    for name, part in parts.items():
        inner = ",\n".join(f"  {json.dumps(key)}: {json.dumps(value)}" for key, value in part.items())
        lines.append(f"{json.dumps(name)}: {{\n{inner}\n}}")
    return ",\n".join(lines) + "}\n"


@cache
def descriptions(cls: Any) -> Mapping[str, str]:
    """Give what the docstring of a dataclass says of each field."""
    text = inspect.getdoc(cls) or ""
    found: dict[str, str] = {}
    name = ""
    for line in text.partition("Attributes:\n")[2].splitlines():
        entry = _ENTRY.match(line.strip()) if line.startswith("    ") and not line.startswith("     ") else None
        if entry:
            name = entry[1]
            found[name] = entry[2]
        elif name and line.strip():
            found[name] += f" {line.strip()}"
    return found


def _first(cls: Any) -> str:
    """Give the first sentence of a docstring."""
    return (inspect.getdoc(cls) or "").partition("\n")[0].replace("``", "'")


def _closed(properties: Mapping[str, Schema], required: Iterable[str] = (), **more: Any) -> Schema:
    """Take these keys and no others."""
    own = {"required": found} if (found := list(required)) else {}
    return {"type": "object", "properties": dict(properties), "additionalProperties": False, **own, **more}


def _names(table: Iterable[Any], **more: Any) -> Schema:
    return {"enum": list(table), **more}


def _any(*options: Schema) -> Schema:
    return {"anyOf": list(options)}


def _choices(option: Schema) -> Schema:
    return _closed({"choices": {"type": "array", "items": option, "minItems": 1}}, ["choices"])


_PLUGINS: Schema = {
    "description": "Files, seen from this one's folder, and installed modules with a user's own losses and networks.",
    "type": "array",
    "items": _any(
        {"type": "string", "minLength": 1},
        _closed(dict.fromkeys(("name", "digest", "source"), _TEXT), ["name", "digest"]),
    ),
}


class _Schemas:
    """Schemas that share definitions; with ``ranges`` a value of a trial may be a range or choices."""

    def __init__(self, *, ranges: bool) -> None:
        self.defs: Schema = {}
        self.ranges = ranges

    def shared(self, name: str, make: Callable[[], Schema]) -> Schema:
        """Refer to a schema that several places have."""
        if name not in self.defs:
            self.defs[name] = {}  # begun
            self.defs[name] = make()
        return {"$ref": f"#/$defs/{name}"}

    def either(self, option: Schema) -> Schema:
        """Take a value or, in a sweep, choices of it."""
        return _any(option, _choices(option)) if self.ranges else option

    def value(self, name: str, annotation: Any) -> Schema:
        """Take the value of a trial's field or, in a sweep, a range or choices."""
        if name in TAGGED:
            return self.shared(name, partial(self._tagged, TAGGED[name].table))
        plain: Schema = TypeAdapter(annotation).json_schema()
        if name == "scales":
            plain |= {"minItems": 1, "uniqueItems": True}
        if name in WEIGHTS:
            weight = {"type": "number", "minimum": 0}
            named = {"type": "object", "patternProperties": {"^s[0-9]+$": weight}, "additionalProperties": False}
            plain = _any(plain, named)
        if not self.ranges:
            return plain
        options = [plain, _choices(plain)]
        if numbers_of(annotation) or name in WEIGHTS:
            kind = "integer" if numbers_of(annotation) == {int} else "number"
            options.append(self.shared(f"{kind}_range", partial(_range, {"type": kind})))
        if name == "scales":
            menu = {**_SCALES, "minItems": 1, "maxItems": 8}
            options.append(_closed({"subsets_of": menu, "containing": _SCALES}, ["subsets_of"]))
        return _any(*options)

    def _tagged(self, table: Mapping[str, Any]) -> Schema:
        """Take a name, or ``{name: {field: value}}``; in a sweep also choices, as a list or by their names."""
        inner = {name: self.shared(cls.__name__, partial(self._or_null, cls)) for name, cls in table.items()}
        option = _any(_names(table), *(_closed({name: schema}, [name]) for name, schema in inner.items()))
        named = _closed({"choices": _closed(inner, minProperties=1)}, ["choices"])
        return _any(option, _choices(option), named) if self.ranges else option

    def _or_null(self, cls: Any) -> Schema:
        """Take the fields of a class, or nothing where all have defaults."""
        needed = _needed(cls)
        found = _closed(self.fields(cls), needed, description=_first(cls))
        return found if needed else _any({"type": "null"}, found)

    def fields(self, cls: Any, kinds: Mapping[str, Any] | None = None, **special: Schema) -> dict[str, Schema]:
        """Take the fields of a dataclass, each with what its docstring says and its default."""
        told = descriptions(cls)
        defaults = {field.name: _default(field) for field in fields(cls)}
        found: dict[str, Schema] = {}
        for name, kind in (annotations(cls) if kinds is None else kinds).items():
            schema = special[name] if name in special else self.value(name, kind)
            said = {"description": told[name].replace("``", "'")} if name in told else {}
            found[name] = {**schema, **said, **defaults.get(name, {})}
        return found

    # Parts of a trial

    def data(self) -> Schema:
        """Take a data set by name, or with its own options; no range, since all trials share their images."""
        plain, rows = _Schemas(ranges=False), []
        for name, row in DATASETS.items():
            own = plain.fields(DataConfig, keys_of("data", name), name={"const": name})
            own |= {key: {**own[key], "default": default} for key, default in row.options.items()}
            own["path"] = {**_TEXT, "minLength": 1} if row.needs_path else own["path"]
            rows.append(_closed(own, ["name", "path"] if row.needs_path else ["name"], description=row.summary))
        alone = _names(name for name, row in DATASETS.items() if not row.needs_path)
        return {**_any(alone, *rows), "description": "Which images.", "default": "digits100"}

    def network(self, cls: Any) -> Schema:
        """Take a network by its name, or with more."""
        kinds = annotations(cls)
        special = {"arch": self.either(_names(MODELS)), "stem": self.either(_names(["auto", *_STEMS]))}
        if "training" in kinds:
            special["training"] = self.shared("training", self.training)
        own = self.fields(cls, **special)
        own["stem"]["default"] = "auto"
        starts: list[tuple[str, Any]] = [("pretrained", True)]
        starts += [("weights", "pretrained")] if cls is TeacherConfig else []
        published = _names(name for name, row in MODELS.items() if row.build_pretrained)
        rules = [_rule(key, {"const": value}, "arch", self.either(published)) for key, value in starts]
        for stem in _STEMS:
            having = _names(name for name, row in MODELS.items() if stem in row.stems)
            rules.append(_rule("stem", {"const": stem}, "arch", self.either(having)))
        return _any(_names(MODELS), _closed(own, ["arch"], description=_first(cls), allOf=rules))

    def training(self) -> Schema:
        """Take a preset by name, or fields laid over one."""
        about = "The authors' settings that the other fields are laid over."
        own = {"preset": self.either(_names(PRESETS, description=about)), **self.fields(TrainingConfig)}
        alone = {"nesterov": {"const": True}, "momentum": {"const": 0}}
        rule = {"not": {"properties": alone, "required": list(alone)}}
        return _any(_names(PRESETS), {**_closed(own, description=_first(TrainingConfig)), **rule}, {"type": "null"})

    def method(self) -> Schema:
        """Take a method or a row of the paper by name, or fields laid over one."""
        found = [_names([*PAPER_ROWS, *METHODS])]
        for name, cls in METHODS.items():
            rows = [row for row, method in PAPER_ROWS.items() if type(method) is cls]
            recipe = self.either(_names(rows, description="A row of the paper; the other fields are laid over it."))
            own = {"name": {"const": name}, "recipe": recipe, **self._method_fields(cls)}
            both = {"required": ["name", "recipe"]}
            one: Schema = {"anyOf": [{"required": ["name"]}, {"required": ["recipe"]}], "not": both}
            if cls is CellDistillation:  # needs no name
                off = {weight: {"const": 0} for weight in ("base_weight", "ce_weight", "cluster_weight")}
                one = {"not": _any(both, {"properties": off, "required": list(off)})}
            found.append({**_closed(own, description=cls.title), **one})
        return _any(*found)

    def _method_fields(self, cls: Any) -> dict[str, Schema]:
        own = self.fields(cls)
        return {name: self.shared(f"{cls.__name__}.{name}", lambda name=name: own[name]) for name in own}  # type: ignore[misc]

    def parts(self) -> dict[str, Schema]:
        """Take what a trial's file and a sweep's have in common."""
        student = self.shared("student", partial(self.network, NetworkConfig))
        teacher = self.shared("teacher", partial(self.network, TeacherConfig))
        method = self.either(self.shared("method", self.method))
        if self.ranges:
            classes = {**METHODS, **{row: type(found) for row, found in PAPER_ROWS.items()}}
            named = {name: _any({"type": "null"}, _closed(self._method_fields(cls))) for name, cls in classes.items()}
            method["anyOf"].append(_closed({"choices": _closed(named, minProperties=1)}, ["choices"]))
        seed = self.value("seed", annotations(TrialConfig)["seed"])
        return {
            "data": self.data(),
            "teacher": {**_any(self.either(teacher), {"type": "null"}), "description": "Network that teaches."},
            "student": {**self.either(student), "description": "Network that is trained."},
            "method": {**method, "description": "Loss: a row of the paper or a method, and its fields."},
            "training": {**self.shared("training", self.training), "description": "How the student is trained."},
            "seed": {**seed, "description": "Of the training.", "default": 0},
            "plugins": _PLUGINS,
        }

    def trial(self) -> Schema:
        """Take a trial's file."""
        parts = {**self.parts(), "fingerprint": {"type": ["object", "null"]}, "extends": _TEXT}
        alone = [name for name, cls in METHODS.items() if not cls.needs_teacher]
        untaught = _any(_names(alone), {"type": "object", "properties": {"name": _names(alone)}, "required": ["name"]})
        taught = {"if": {"properties": {"method": untaught}}, "else": {"required": ["teacher"]}}
        whole = {"required": ["student", "method"], **taught}
        return {**_closed(parts), "if": {"required": ["extends"]}, "else": whole}

    # Parts of a sweep

    def sweep(self) -> Schema:
        """Take a sweep's file."""
        parts = self.parts()
        networks = {part: {"$ref": f"#/$defs/{part}"} for part in ("teacher", "student")}
        named = _closed({"name": NAME, **networks}, networks)
        own = {
            "name": {**NAME, "description": "Of the sweep, its folder and its study."},
            "extends": {**_TEXT, "description": "A file that this one is laid over."},
            "pairs": {"type": "array", "items": named, "minItems": 2, "description": "Every trial trains all."},
            "pair": _choices(_closed(networks, networks)),
            **parts,
            "search": _search(),
            "resources": _part(Resources),
        }
        return _closed(own, ["name"])


def _search() -> Schema:
    """Take how to search, where nothing is a range."""
    plain = _Schemas(ranges=False)
    objective = _any(_names(METRICS), _closed(plain.fields(Objective, metric=_names(METRICS))))
    source = _closed({"from": NAME, "top": plain.fields(Source)["top"]}, ["from"])
    changes: dict[str, Schema] = {part: {} for part in ("teacher", "student", "method", "training", "seed")}
    first = _any(_names(PAPER_ROWS), source, _closed({"label": _any(NAME, _names(PAPER_ROWS)), **changes}, ["label"]))
    return _closed(
        {
            "objective": _any(objective, {"type": "array", "items": objective, "minItems": 1}),
            "sampler": _part(SamplerConfig, "name"),
            "pruner": _part(PrunerConfig, "name"),
            "enqueue": _any(source, {"type": "array", "items": first}),
            "budget": _part(Budget),
            "rank": _names(RANK_NAMES, description="Of trials of several pairs."),
        },
        description="How to search.",
    )


def _part(cls: Any, name: str = "") -> Schema:
    """Take the fields of a part, all of which have defaults, or its name alone where it has one."""
    own = _Schemas(ranges=False).fields(cls)
    alone = [{"enum": own[name]["enum"]}] if name else []
    return {**_any(*alone, _closed(own)), "description": _first(cls)}


def _range(number: Schema) -> Schema:
    ends = {"low": number, "high": number, "log": {"type": "boolean"}, "step": {**number, "exclusiveMinimum": 0}}
    return _closed(ends, ["low", "high"])


def _rule(field: str, value: Schema, other: str, then: Schema) -> Schema:
    """If one field has a value, so must another."""
    return {"if": {"properties": {field: value}, "required": [field]}, "then": {"properties": {other: then}}}


def _needed(cls: Any) -> Sequence[str]:
    return [field.name for field in fields(cls) if field.default is field.default_factory is MISSING]


def _default(field: Any) -> Schema:
    default = field.default_factory() if field.default_factory is not MISSING else field.default
    return {} if default is MISSING else {"default": plain_data(default)}


_STEMS = sorted({stem for row in MODELS.values() for stem in row.stems})

if __name__ == "__main__":
    for _kind in get_args(Kind):
        Path(__file__).with_name(f"{_kind}.schema.json").write_text(text_of(_kind))
