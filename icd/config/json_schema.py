"""JSON Schema of trial and sweep files: what editors complete and check, from the dataclasses and their docstrings.

A schema knows types, ranges, names and defaults. Rules between the parts of a file are checked when it is read.
``python -m icd.config.json_schema`` writes the two files beside this module, which ``icd schema`` prints.
"""

import inspect
import json
import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import MISSING, fields
from functools import cache
from pathlib import Path
from typing import Any, Literal, get_args

from pydantic import TypeAdapter

from icd.config.document import WEIGHTS
from icd.config.reader import NAME, TAGGED, keys_of, needed
from icd.config.sweep import (
    METRICS,
    Budget,
    Objective,
    PrunerConfig,
    RankName,
    Resources,
    SamplerConfig,
    Source,
)
from icd.config.training import PRESETS, TrainingConfig
from icd.config.trial import DataConfig, NetworkConfig, TeacherConfig, TrialConfig, plain_data
from icd.data import DATASETS
from icd.fields import annotations
from icd.methods import METHODS, PAPER_ROWS, CellDistillation
from icd.models import MODELS

Schema = dict[str, Any]
Kind = Literal["trial", "sweep"]

_NAME: Schema = TypeAdapter(NAME).json_schema()
_TEXT: Schema = {"type": "string"}
_NULL: Schema = {"type": "null"}
_SCALES: Schema = {"type": "array", "items": {"type": "integer", "minimum": 1}, "uniqueItems": True}
_PUBLISHED = (("pretrained", True), ("weights", "pretrained"))  # what asks for a network's published weights
_ENTRY = re.compile(r"^    (\w+): (.*(?:\n     .*)*)", re.MULTILINE)  # of an attribute, more lines deeper in


def schema_of(kind: Kind) -> Schema:
    """Give the schema of a trial's or a sweep's file."""
    about = {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": f"icd: a {kind}'s file"}
    shared = _shared()
    if kind == "trial":
        parts = _closed({**_parts(), "fingerprint": {"type": ["object", "null"]}})
        alone: Schema = {"enum": [name for name, cls in METHODS.items() if not cls.needs_teacher]}
        untaught = _any(alone, {"type": "object", "properties": {"name": alone}, "required": ["name"]})
        taught: Schema = {"if": {"properties": {"method": untaught}}, "else": {"required": ["teacher"]}}
        needs = {"if": {"required": ["extends"]}, "else": {"required": ["student", "method"], **taught}}
        return {**about, **parts, **needs, "$defs": shared}
    searched = {name: _searched(item) for name, item in shared.items()}
    for kind_of_number in ("integer", "number"):
        number: Schema = {"type": kind_of_number}
        keys = {"low": number, "high": number, "log": {"type": "boolean"}, "step": {**number, "exclusiveMinimum": 0}}
        searched[kind_of_number] = _closed(keys, ["low", "high"])
    return {**about, **_sweep(), "$defs": searched}


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
    text = (inspect.getdoc(cls) or "").partition("Attributes:\n")[2]
    return {name: " ".join(said.split()) for name, said in _ENTRY.findall(text)}


# Kinds of schema


def _first(cls: Any) -> str:
    """Give the first sentence of a docstring."""
    return (inspect.getdoc(cls) or "").partition("\n")[0].replace("``", "'")


def _closed(properties: Mapping[str, Schema], required: Iterable[str] = (), **more: Any) -> Schema:
    """Take these keys and no others."""
    own = {"required": found} if (found := list(required)) else {}
    return {"type": "object", "properties": dict(properties), "additionalProperties": False, **own, **more}


def _object(cls: Any, **special: Schema) -> Schema:
    """Take the fields of a dataclass, and those that are described here, by a mapping."""
    return _closed({**special, **_fields(cls, **special)}, needed(cls), description=_first(cls))


def _any(*options: Schema, **more: Any) -> Schema:
    return {"anyOf": list(options), **more}


def _ref(name: str) -> Schema:
    return {"$ref": f"#/$defs/{name}"}


def _choices(option: Schema) -> Schema:
    return _closed({"choices": {"type": "array", "items": option, "minItems": 1}}, ["choices"])


def _fields(cls: Any, kinds: Mapping[str, Any] | None = None, **special: Schema) -> dict[str, Schema]:
    """Take the fields of a dataclass, each with what its docstring says and its default."""
    told = {name: {"description": said.replace("``", "'")} for name, said in descriptions(cls).items()}
    given: Any = [field for field in fields(cls) if field.name not in needed(cls)]
    defaults = {
        field.name: {"default": plain_data(field.default_factory() if field.default is MISSING else field.default)}
        for field in given
    }
    return {
        name: {**(special.get(name) or _value(name, kind)), **told.get(name, {}), **defaults.get(name, {})}
        for name, kind in (annotations(cls) if kinds is None else kinds).items()
    }


def _value(name: str, annotation: Any) -> Schema:
    if name in TAGGED:
        return _ref(name)
    plain: Schema = TypeAdapter(annotation).json_schema()
    if name == "scales":
        return {**plain, "minItems": 1, "uniqueItems": True}
    if name in WEIGHTS:
        weights = {"^s[0-9]+$": {"type": "number", "minimum": 0}}
        return _any(plain, _closed({}, patternProperties=weights))
    return plain


# Parts of a trial


def _shared() -> Schema:
    """Give what several places of a file may hold, by name."""
    found: Schema = {}
    for name, table in TAGGED.items():
        for cls in table.values():  # nothing will do where all fields have defaults
            found[cls.__name__] = _object(cls) if needed(cls) else _any(_NULL, _object(cls))
        named = (_closed({key: _ref(cls.__name__)}, [key]) for key, cls in table.items())
        found[name] = _any({"enum": [*table]}, *named)
    found |= {f"method.{name}": _method(name) for name in METHODS}
    found["method"] = _any({"enum": [*PAPER_ROWS, *METHODS]}, *(_ref(f"method.{name}") for name in METHODS))
    training = {**_object(TrainingConfig, preset={"enum": [*PRESETS]}), "required": []}  # the preset has them all
    found["training"] = _any({"enum": [*PRESETS]}, training, _NULL)
    return {**found, "student": _network(NetworkConfig), "teacher": _network(TeacherConfig)}


def _method(name: str) -> Schema:
    """Take a method's fields; laid over a row of the paper, or over the defaults of the method that is named."""
    cls = METHODS[name]
    rows = [row for row, method in PAPER_ROWS.items() if type(method) is cls]
    recipe: Schema = {"enum": rows, "description": "A row of the paper."}
    one: list[Schema] = [{"required": ["name"]}, {"required": ["recipe"]}]
    if cls is CellDistillation:  # is meant where neither is named
        one.append({"not": _any(*one)})
    return _closed({"name": {"const": name}, "recipe": recipe, **_fields(cls)}, description=cls.title, oneOf=one)


def _network(cls: Any) -> Schema:
    """Take a network by its name, any of timm's among them, or with more; not all have published weights."""
    timm = {**_TEXT, "pattern": "^timm:."}
    arch = _any({"enum": [*MODELS]}, timm)
    published = _any({"enum": [name for name, row in MODELS.items() if row.build_pretrained]}, timm)
    asked = [{"properties": {field: {"const": value}}, "required": [field]} for field, value in _PUBLISHED]
    more: Schema = {"if": _any(*asked), "then": {"properties": {"arch": published}}}
    stems = sorted({"own", *(stem for row in MODELS.values() for stem in row.stems)})
    stem = {"enum": ["auto", *stems], "default": "auto"}
    taught = {"training": _ref("training")} if "training" in annotations(cls) else {}
    return _any(arch, {**_object(cls, arch=arch, stem=stem, **taught), "required": ["arch"], **more})


def _data(left_out: Collection[str]) -> Schema:
    """Take a data set by name, or with its own options."""
    rows = []
    for name, row in DATASETS.items():
        own = _fields(DataConfig, keys_of("data", name), name={"const": name})
        own |= {key: {**own[key], "default": default} for key, default in row.options.items()}
        own["path"] = {**_TEXT, "minLength": 1} if row.needs_path else own["path"]
        own = {key: value for key, value in own.items() if key not in left_out}
        rows.append(_closed(own, ["name", "path"] if row.needs_path else ["name"], description=row.summary))
    alone = {"enum": [name for name, row in DATASETS.items() if not row.needs_path]}
    return _any(alone, *rows, description="Which images.", default="digits100")


def _parts(left_out: Collection[str] = ()) -> dict[str, Schema]:
    """Take what a trial's file and a sweep's have in common, without some keys of the data."""
    told = descriptions(TrialConfig)
    parts = {
        "data": _data(left_out),
        "teacher": _any(_ref("teacher"), _NULL),
        "student": _ref("student"),
        "method": _ref("method"),
        "training": _ref("training"),
        "seed": {**_value("seed", annotations(TrialConfig)["seed"]), "default": 0},
        "plugins": {"type": "array", "items": {"type": ["string", "object"]}},
    }
    return {
        **{name: {"description": told[name], **part} for name, part in parts.items()},
        "extends": {**_TEXT, "description": "A file that this one is laid over."},
    }


# A sweep


def _searched(schema: Any) -> Any:
    """Let a range or choices stand wherever the schema of a trial takes a value, but for names of methods."""
    if isinstance(schema, list):
        return [_searched(item) for item in schema]
    found = {}
    for key, inner in schema.items():
        if key == "properties":
            inner = {name: item if "const" in item else _choosable(name, item) for name, item in inner.items()}
        found[key] = _searched(inner) if key in ("anyOf", "then") else inner
    return found


def _choosable(name: str, schema: Schema) -> Schema:
    """Take a value, choices of it, choices by their names, and a range of numbers."""
    if name == "training":
        return schema
    value = {key: item for key, item in schema.items() if key not in ("description", "default")}
    told = {key: item for key, item in schema.items() if key not in value}
    options = [value, _choices(value)]
    kinds = {item.get("type") for item in value.get("anyOf", [value])} & {"integer", "number"}
    if kinds or name in WEIGHTS:
        options.append(_ref(next(iter(kinds), "number")))
    if name == "scales":
        options.append(_closed({"subsets_of": {**_SCALES, "maxItems": 8}, "containing": _SCALES}, ["subsets_of"]))
    table = {key: cls.__name__ for key, cls in TAGGED[name].items()} if name in TAGGED else {}
    if name == "method":
        classes = {**METHODS, **{row: type(method) for row, method in PAPER_ROWS.items()}}
        table = {key: f"method.{METHODS.name_of(cls)}" for key, cls in classes.items()}
    if table:
        named = {key: _any(_NULL, _ref(inner)) for key, inner in table.items()}
        options.append(_closed({"choices": _closed(named, minProperties=1)}, ["choices"]))
    return {**_any(*options), **told}


def _sweep() -> Schema:
    parts = _parts(left_out=("train_on", "measure_on"))  # which a search decides by itself
    networks = {part: _ref(part) for part in ("teacher", "student")}
    several: Schema = {"type": "array", "items": _closed({"name": _NAME, **networks}, networks), "minItems": 2}
    one = _choices(_closed(networks, networks))
    own = {
        "name": {**_NAME, "description": "Of the sweep, its folder and its study."},
        "pairs": {"description": "Teachers with students; each trial is trained on all of them.", **several},
        "pair": {"description": "Teachers with students; each trial has one of them.", **one},
        **parts,
        **{part: _choosable(part, parts[part]) for part in ("teacher", "student", "method", "seed")},
        "search": _search(),
        "resources": _part(Resources),
    }
    return _closed(own, ["name"])


def _search() -> Schema:
    objective = _any({"enum": [*METRICS]}, _object(Objective, metric={"enum": [*METRICS]}))
    several: Schema = {"type": "array", "items": objective, "minItems": 1}
    source = _closed({"from": _NAME, "top": _fields(Source)["top"]}, ["from"])
    changes: dict[str, Schema] = {part: {} for part in ("teacher", "student", "method", "training", "seed")}
    rows: Schema = {"enum": [*PAPER_ROWS]}
    first = _any(rows, source, _closed({"label": _any(_NAME, rows), **changes}, ["label"]))
    own = {
        "objective": _any(objective, several, description="What is made large or small."),
        "sampler": _part(SamplerConfig, "name"),
        "pruner": _part(PrunerConfig, "name"),
        "enqueue": _any(first, {"type": "array", "items": first}, description="What is tried first."),
        "budget": _part(Budget),
        "rank": {"enum": [*get_args(RankName)], "description": "Of trials of several pairs."},
    }
    return _closed(own, description="How to search.")


def _part(cls: Any, name: str = "") -> Schema:
    """Take the fields of a part, all of which have defaults, or its name alone where it has one."""
    own = _fields(cls)
    return _any(*([{"enum": own[name]["enum"]}] if name else []), _closed(own), description=_first(cls))


if __name__ == "__main__":
    for _kind in get_args(Kind):
        Path(__file__).with_name(f"{_kind}.schema.json").write_text(text_of(_kind))
