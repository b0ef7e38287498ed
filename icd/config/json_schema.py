"""JSON Schema of trial and sweep files: what editors complete and check, from the dataclasses and their docstrings.

A schema knows types, ranges, names and defaults. Rules between the parts of a file are checked when it is read.
"""

import inspect
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, fields
from functools import cache, partial
from typing import Any, Literal

from pydantic import TypeAdapter

from icd.config.forms import WEIGHTS
from icd.config.read_template import numbers_of
from icd.config.reader import TAGGED, option_types
from icd.config.sweep import METRICS, RANK_NAMES, Budget, Objective, PrunerConfig, Resources, SamplerConfig, Source
from icd.config.training import PRESETS, TrainingConfig
from icd.config.trial import DataConfig, NetworkConfig, TeacherConfig, plain_data
from icd.data import DATASETS
from icd.fields import annotations
from icd.methods import METHODS, PAPER_ROWS, CellDistillation
from icd.models import MODELS

Schema = dict[str, Any]
Kind = Literal["trial", "sweep"]

_NAME = "^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"
_SEED: Schema = {"type": "integer", "minimum": 0, "maximum": 2**63 - 1, "default": 0}
_ENTRY = re.compile(r"^(\w+): (.*)$")


def schema_of(kind: Kind) -> Schema:
    """Give the schema of a trial's or a sweep's file."""
    shared: Schema = {}
    made = _Schemas(shared, searched=kind == "sweep")
    what = "a sweep's file: a trial's, with ranges and choices in it" if made.searched else "a trial's file"
    found = made.sweep() if made.searched else made.trial()
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": f"icd: {what}",
        **found,
        "$defs": shared,
    }


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


def closed(properties: Schema, required: Sequence[str] = (), **more: Any) -> Schema:
    """Take these keys and no others."""
    own = {"required": list(required)} if required else {}
    return {"type": "object", "properties": properties, "additionalProperties": False, **own, **more}


def _names(table: Any, **more: Any) -> Schema:
    return {"enum": list(table), **more}


def _any(*options: Schema) -> Schema:
    return {"anyOf": list(options)}


class _Schemas:
    def __init__(self, shared: Schema, *, searched: bool) -> None:
        self.defs, self.searched = shared, searched

    def shared(self, name: str, make: Callable[[], Schema]) -> Schema:
        """Refer to a schema that several places have."""
        name = f"{name}_or_ranges" if self.searched else name
        if name not in self.defs:
            self.defs[name] = {}  # begun
            self.defs[name] = make()
        return {"$ref": f"#/$defs/{name}"}

    # Fields

    def value(self, name: str, annotation: Any) -> Schema:
        """Take a value of a field or, in a sweep, a range or choices."""
        plain: Schema = TypeAdapter(annotation).json_schema()
        if name == "scales":
            plain |= {"minItems": 1, "uniqueItems": True}
        if name in WEIGHTS:
            named = {"type": "object", "patternProperties": {"^s[0-9]+$": {"type": "number", "minimum": 0}}}
            plain = _any(plain, {**named, "additionalProperties": False})
        if not self.searched:
            return plain
        options = [plain, self.choices(plain)]
        number = {"type": "integer"} if numbers_of(annotation) == {int} else {"type": "number"}
        if numbers_of(annotation) or name in WEIGHTS:
            ends = {"low": number, "high": number, "log": {"type": "boolean"}}
            step = {} if name in WEIGHTS else {"step": {**number, "exclusiveMinimum": 0}}
            options.append(closed({**ends, **step}, ("low", "high")))
        if name == "scales":
            scales = {"type": "array", "items": {"type": "integer", "minimum": 1}, "uniqueItems": True}
            menu = {**scales, "minItems": 1, "maxItems": 8}
            options.append(closed({"subsets_of": menu, "containing": scales}, ("subsets_of",)))
        return _any(*options)

    def choices(self, option: Schema, named: Schema | None = None) -> Schema:
        """Take ``{choices: [...]}``, or with names ``{choices: {name: {field: ...}}}``."""
        several: Schema = {"type": "array", "items": option, "minItems": 1}
        return closed({"choices": several if named is None else _any(several, named)}, ("choices",))

    def fields(self, cls: Any, *without: str, **special: Schema) -> Schema:
        """Take the fields of a dataclass, each with what its docstring says and its default."""
        found: Schema = {}
        told = descriptions(cls)
        for field in fields(cls):
            if field.name in without:
                continue
            schema = special.get(field.name) or self._field(field.name, annotations(cls)[field.name])
            default = field.default_factory() if field.default_factory is not MISSING else field.default
            default = {} if default is MISSING else {"default": plain_data(default)}
            said = {"description": told[field.name].replace("``", "'")} if field.name in told else {}
            found[field.name] = {**schema, **said, **default}
        return found

    def _field(self, name: str, annotation: Any) -> Schema:
        if name in TAGGED:
            return self.shared(name, lambda: self.tagged(TAGGED[name].table))
        return self.value(name, annotation)

    def tagged(self, table: Mapping[str, Any]) -> Schema:
        """Take a name, or ``{name: {field: value}}``; in a sweep also choices of them."""
        inner = {name: self.shared(cls.__name__, partial(self._of, cls)) for name, cls in table.items()}
        one = [closed({name: schema}, (name,)) for name, schema in inner.items()]
        option = _any(_names(table), *one)
        named = closed(inner, minProperties=1)
        return _any(option, self.choices(option, named)) if self.searched else option

    def _of(self, cls: Any) -> Schema:
        needed = [f.name for f in fields(cls) if f.default is MISSING and f.default_factory is MISSING]
        empty = () if needed else ({"type": "null"},)
        return _any(*empty, closed(self.fields(cls), needed, description=_first(cls)))

    # Parts of a trial

    def data(self) -> Schema:
        """Take a data set by name, or with its own options."""
        rows = []
        for name, row in DATASETS.items():
            options = {key: self._plain(kind) for key, kind in option_types(name).items()}
            own = self.fields(
                DataConfig, "options", "digest", name={"const": name}, train_on=_names(["train", "train+val"])
            )
            if row.needs_path:
                own["path"] = {"type": "string", "minLength": 1, "description": "File or folder below the data root."}
            defaults = {key: {**schema, "default": row.options[key]} for key, schema in options.items()}
            needed = ("name", "path") if row.needs_path else ("name",)
            digest = {"digest": {"type": ["string", "null"]}}
            rows.append(closed({**own, **defaults, **digest}, needed, description=row.summary))
        alone = [name for name, row in DATASETS.items() if not row.needs_path]
        return {**_any(_names(alone), *rows), "description": "Which images.", "default": "digits100"}

    def _plain(self, annotation: Any) -> Schema:
        found: Schema = TypeAdapter(annotation).json_schema()
        return found

    def network(self, cls: Any) -> Schema:
        """Take a network by its name, or with more."""
        arch = _names(MODELS)
        more = {"training": self.shared_training()} if cls is TeacherConfig else {}
        stems = sorted({stem for row in MODELS.values() for stem in row.stems})
        stem = self.either(_names(["auto", *stems]))
        own = self.fields(cls, arch=self.either(arch), stem=stem, **more)
        own["stem"] = {**own["stem"], "default": "auto"}
        published = self.either(_names([name for name, row in MODELS.items() if row.build_pretrained]))
        key, value = ("pretrained", True) if cls is NetworkConfig else ("weights", "pretrained")
        asked = {"properties": {key: {"const": value}}, "required": [key]}
        rule = {"if": asked, "then": {"properties": {"arch": published}}}
        of_stem = [
            {
                "if": {"properties": {"arch": {"const": name}}},
                "then": {"properties": {"stem": self.either(_names(["auto", *row.stems]))}},
            }
            for name, row in MODELS.items()
        ]
        return _any(arch, closed(own, ("arch",), description=_first(cls), allOf=[rule, *of_stem]))

    def either(self, option: Schema) -> Schema:
        """Take a value or, in a sweep, choices of it."""
        return _any(option, self.choices(option)) if self.searched else option

    def shared_training(self) -> Schema:
        """Take what a training's fields may be, which teachers have too."""
        return self.shared("training", self.training)

    def training(self) -> Schema:
        """Take a preset by name, or fields laid over one."""
        preset = self.either(_names(PRESETS, description="The authors' settings that the other fields are laid over."))
        own = {"preset": preset, **self.fields(TrainingConfig)}
        alone: Schema = {"nesterov": {"const": True}, "momentum": {"const": 0}}
        rule: Schema = {"not": {"properties": alone, "required": list(alone)}}
        return _any(_names(PRESETS), closed(own, description=_first(TrainingConfig)) | rule, {"type": "null"})

    def method(self) -> Schema:
        """Take a method or a row of the paper by name, or fields laid over one."""
        return self.either_method(_any(_names([*PAPER_ROWS, *METHODS]), *self._methods()))

    def _methods(self) -> list[Schema]:
        found = []
        for name, cls in METHODS.items():
            rows = [row for row, method in PAPER_ROWS.items() if type(method) is cls]
            own = self._method_fields(cls)
            start = _names(rows, description="A row of the paper; the other fields are laid over it.")
            if rows:
                found.append(closed({"recipe": self.either(start), **own}, ("recipe",), description=cls.title))
            if cls is CellDistillation:
                off = {weight: {"const": 0} for weight in ("base_weight", "ce_weight", "cluster_weight")}
                rule: Schema = {"not": {"properties": off, "required": list(off)}}
                found.append(closed({"name": {"const": name}, **own}, description=cls.title) | rule)
            else:
                found.append(closed({"name": {"const": name}, **own}, ("name",), description=cls.title))
        return found

    def _method_fields(self, cls: Any) -> Schema:
        """Take the fields of a method; several rows have the same ones."""
        found = {}
        for name, schema in self.fields(cls).items():
            found[name] = self.shared(f"{cls.__name__}.{name}", lambda schema=schema: schema)  # type: ignore[misc]
        return found

    def either_method(self, option: Schema) -> Schema:
        if not self.searched:
            return option
        named: Schema = {}
        for label in (*PAPER_ROWS, *METHODS):
            cls = METHODS[label] if label in METHODS else type(PAPER_ROWS[label])
            named[label] = _any({"type": "null"}, closed(self._method_fields(cls)))
        return _any(option, self.choices(option, closed(named, minProperties=1)))

    def trial_parts(self) -> Schema:
        """Take what a trial's file and a sweep's have in common."""
        student, teacher = self.network(NetworkConfig), self.network(TeacherConfig)
        return {
            "data": self.data(),
            "teacher": {**_any(self.either(teacher), {"type": "null"}), "description": "Network that teaches."},
            "student": {**self.either(student), "description": "Network that is trained."},
            "method": {**self.method(), "description": "Loss: a row of the paper or a method, and its fields."},
            "training": {**self.shared_training(), "description": "How the student is trained."},
            "seed": {**self.value("seed", int), **({} if self.searched else _SEED), "description": "Of the training."},
        }

    def trial(self) -> Schema:
        """Take a trial's file."""
        parts = {**self.trial_parts(), "fingerprint": {"type": ["object", "null"]}, "extends": {"type": "string"}}
        alone = [name for name, cls in METHODS.items() if not cls.needs_teacher]
        untaught = _any(_names(alone), {"type": "object", "properties": {"name": _names(alone)}, "required": ["name"]})
        rule = {"if": {"properties": {"method": untaught}}, "else": {"required": ["teacher"]}}
        whole = closed(parts, ("student", "method"))
        return {**whole, "if": {"required": ["extends"]}, "then": {"required": []}, "else": rule}

    # Parts of a sweep

    def sweep(self) -> Schema:
        """Take a sweep's file."""
        parts = self.trial_parts()
        plain = _Schemas(self.defs, searched=False)
        networks = {
            part: plain.shared(part, partial(plain.network, cls))
            for part, cls in (("teacher", TeacherConfig), ("student", NetworkConfig))
        }
        pair = closed(networks, ("teacher", "student"))
        named = closed({"name": {"type": "string", "pattern": _NAME}, **networks}, ("teacher", "student"))
        return closed(
            {
                "name": {"type": "string", "pattern": _NAME, "description": "Of the sweep, its folder and its study."},
                "extends": {"type": "string", "description": "A file that this one is laid over."},
                "pairs": {"type": "array", "items": named, "minItems": 2, "description": "Every trial trains all."},
                "pair": self.choices(pair),
                **parts,
                "search": self._search(plain),
                "resources": {**plain.part(Resources), "description": _first(Resources)},
            },
            ("name",),
        )

    def _search(self, plain: "_Schemas") -> Schema:
        objective = _any(_names(METRICS), closed(plain.fields(Objective, metric=_names(METRICS))))
        top = plain.fields(Source)["top"]
        source = closed({"from": {"type": "string", "pattern": _NAME}, "top": top}, ("from",))
        changes = {name: schema for name, schema in plain.trial_parts().items() if name != "data"}
        label = {"type": "string", "pattern": _NAME}
        baseline = closed({"label": label, **{name: {} for name in changes}}, ("label",))
        first = _any(_names(PAPER_ROWS), source, baseline)
        return closed(
            {
                "objective": _any(objective, {"type": "array", "items": objective, "minItems": 1}),
                "sampler": plain.named(SamplerConfig),
                "pruner": plain.named(PrunerConfig),
                "enqueue": _any(source, {"type": "array", "items": first}),
                "budget": {**plain.part(Budget), "description": _first(Budget)},
                "rank": _names(RANK_NAMES, description="Of trials of several pairs."),
            },
            description="How to search.",
        )

    def part(self, cls: Any) -> Schema:
        """Take the fields of a part, all of which have defaults."""
        return closed(self.fields(cls))

    def named(self, cls: Any) -> Schema:
        """Take a part by its name alone, or with fields."""
        name = TypeAdapter(annotations(cls)["name"]).json_schema()
        return {**_any(name, self.part(cls)), "description": _first(cls)}


def _first(cls: Any) -> str:
    """Give the first sentence of a docstring."""
    return (inspect.getdoc(cls) or "").partition("\n")[0].replace("``", "'")
