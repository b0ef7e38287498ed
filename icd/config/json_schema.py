"""JSON Schema of trial and sweep files: what editors complete and check, from the dataclasses and their docstrings.

A schema knows types, ranges, names and defaults. Rules between the parts of a file are checked when it is read.
``python -m icd.config.json_schema`` writes the two files beside this module, which ``icd schema`` prints.
"""

import inspect
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import MISSING, fields
from functools import cache
from pathlib import Path
from typing import Any, Literal, get_args

from pydantic import TypeAdapter

from icd.config.forms import WEIGHTS
from icd.config.reader import NAME, TAGGED, keys_of, needed
from icd.config.sweep import METRICS, RANK_NAMES, Budget, Objective, PrunerConfig, Resources, SamplerConfig, Source
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
_ENTRY = re.compile(r"^(\w+): (.*)$")


def schema_of(kind: Kind) -> Schema:
    """Give the schema of a trial's or a sweep's file."""
    what = "a sweep's file: a trial's, with ranges and choices in it" if kind == "sweep" else "a trial's file"
    about = {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": f"icd: {what}"}
    shared = _shared()
    if kind == "trial":
        return {**about, **_trial(), "$defs": shared}
    shared = {name: _searched(schema) for name, schema in shared.items()}
    return {**about, **_sweep(), "$defs": {**shared, "integer": _range("integer"), "number": _range("number")}}


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


# Kinds of schema


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


def _ref(name: str) -> Schema:
    return {"$ref": f"#/$defs/{name}"}


def _when(field: str, value: object, other: str, then: Schema) -> Schema:
    """If one field has a value, another must be so."""
    condition = {"properties": {field: {"const": value}}, "required": [field]}
    return {"if": condition, "then": {"properties": {other: then}}}


def _fields(cls: Any, kinds: Mapping[str, Any] | None = None, **special: Schema) -> dict[str, Schema]:
    """Take the fields of a dataclass, each with what its docstring says and its default."""
    told = descriptions(cls)
    defaults = {field.name: _default(field) for field in fields(cls)}
    found: dict[str, Schema] = {}
    for name, kind in (annotations(cls) if kinds is None else kinds).items():
        schema = special[name] if name in special else _value(name, kind)
        said = {"description": told[name].replace("``", "'")} if name in told else {}
        found[name] = {**schema, **said, **defaults.get(name, {})}
    return found


def _value(name: str, annotation: Any) -> Schema:
    if name in TAGGED:
        return _ref(name)
    plain: Schema = TypeAdapter(annotation).json_schema()
    if name == "scales":
        return {**plain, "minItems": 1, "uniqueItems": True}
    if name in WEIGHTS:
        weight = {"type": "number", "minimum": 0}
        return _any(
            plain, {"type": "object", "patternProperties": {"^s[0-9]+$": weight}, "additionalProperties": False}
        )
    return plain


def _default(field: Any) -> Schema:
    default = field.default_factory() if field.default_factory is not MISSING else field.default
    return {} if default is MISSING else {"default": plain_data(default)}


# Parts of a trial


def _shared() -> Schema:
    """Give what several places of a file may hold, by name."""
    found = {cls.__name__: _tagged(cls) for row in TAGGED.values() for cls in row.table.values()}
    for name, row in TAGGED.items():
        named = (_closed({key: _ref(cls.__name__)}, [key]) for key, cls in row.table.items())
        found[name] = _any(_names(row.table), *named)
    found |= {f"method.{name}": _method(name) for name in METHODS}
    named = (_ref(f"method.{name}") | _named(cls) for name, cls in METHODS.items())
    found["method"] = _any(_names([*PAPER_ROWS, *METHODS]), *named)
    return {**found, "training": _training(), "student": _network(NetworkConfig), "teacher": _network(TeacherConfig)}


def _tagged(cls: Any) -> Schema:
    """Take the fields of a base loss or an augmentation, or nothing where all have defaults."""
    found = _closed(_fields(cls), needed(cls), description=_first(cls))
    return found if needed(cls) else _any(_NULL, found)


def _method(name: str) -> Schema:
    """Take a method's fields; laid over a row of the paper, or over its defaults."""
    cls = METHODS[name]
    rows = [row for row, method in PAPER_ROWS.items() if type(method) is cls]
    recipe = _names(rows, description="A row of the paper; the other fields are laid over it.")
    own = {"name": {"const": name}, "recipe": recipe, **_fields(cls)}
    wrong: list[Schema] = [{"required": ["name", "recipe"]}]
    if cls is CellDistillation:
        off = {weight: {"const": 0} for weight in ("base_weight", "ce_weight", "cluster_weight")}
        wrong.append({"properties": off, "required": list(off)})
    return _closed(own, description=cls.title, **{"not": _any(*wrong)})


def _named(cls: Any) -> Schema:
    """Ask for the name of a method that is not the default one."""
    return {} if cls is CellDistillation else _any({"required": ["name"]}, {"required": ["recipe"]})


def _training() -> Schema:
    """Take a preset by name, or fields laid over one."""
    about = "The authors' settings that the other fields are laid over."
    own = _closed({"preset": _names(PRESETS, description=about), **_fields(TrainingConfig)})
    wrong = [{"nesterov": {"const": True}, "momentum": {"const": 0}}]
    wrong += [{"nesterov": {"const": True}, "optimizer": {"const": "adamw"}}]
    never = _any(*({"properties": both, "required": list(both)} for both in wrong))
    rule = {"description": _first(TrainingConfig), "not": never}
    return _any(_names(PRESETS), {**own, **rule}, _NULL)


def _network(cls: Any) -> Schema:
    """Take a network by its name, or with more."""
    stems = sorted({"own", *(stem for row in MODELS.values() for stem in row.stems)})
    own = _fields(cls, arch=_arch(MODELS), stem=_names(["auto", *stems]), training=_ref("training"))
    own["stem"]["default"] = "auto"
    published = _arch(name for name, row in MODELS.items() if row.build_pretrained)
    rules = [_when("pretrained", True, "arch", published)]
    rules += [_when("weights", "pretrained", "arch", published)] if cls is TeacherConfig else []
    for stem in stems:
        having = [name for name, row in MODELS.items() if stem in row.stems]
        rules.append(_when("stem", stem, "arch", _arch(having) if stem == "own" else _names(having)))
    return _any(_arch(MODELS), _closed(own, ["arch"], description=_first(cls), allOf=rules))


def _arch(names: Iterable[str]) -> Schema:
    """Take one of some networks, or any of timm's."""
    return _any(_names(names), {**_TEXT, "pattern": "^timm:."})


def _data() -> Schema:
    """Take a data set by name, or with its own options."""
    rows = []
    for name, row in DATASETS.items():
        own = _fields(DataConfig, keys_of("data", name), name={"const": name})
        own |= {key: {**own[key], "default": default} for key, default in row.options.items()}
        own["path"] = {**_TEXT, "minLength": 1} if row.needs_path else own["path"]
        rows.append(_closed(own, ["name", "path"] if row.needs_path else ["name"], description=row.summary))
    alone = _names(name for name, row in DATASETS.items() if not row.needs_path)
    return {**_any(alone, *rows), "description": "Which images.", "default": "digits100"}


def _parts() -> dict[str, Schema]:
    """Take what a trial's file and a sweep's have in common."""
    seed = _value("seed", annotations(TrialConfig)["seed"])
    return {
        "data": _data(),
        "teacher": {**_any(_ref("teacher"), _NULL), "description": "Network that teaches."},
        "student": {**_ref("student"), "description": "Network that is trained."},
        "method": {**_ref("method"), "description": "Loss: a row of the paper or a method, and its fields."},
        "training": {**_ref("training"), "description": "How the student is trained."},
        "seed": {**seed, "description": "Of the training.", "default": 0},
        "extends": {**_TEXT, "description": "A file that this one is laid over."},
        "plugins": _plugins(),
    }


def _trial() -> Schema:
    alone = [name for name, cls in METHODS.items() if not cls.needs_teacher]
    untaught = _any(_names(alone), {"type": "object", "properties": {"name": _names(alone)}, "required": ["name"]})
    taught = {"if": {"properties": {"method": untaught}}, "else": {"required": ["teacher"]}}
    whole = {"required": ["student", "method"], **taught}
    parts = {**_parts(), "fingerprint": {"type": ["object", "null"]}}
    return {**_closed(parts), "if": {"required": ["extends"]}, "else": whole}


def _plugins() -> Schema:
    """Take a list of paths and modules, or what a document that was written holds of them."""
    stored = _closed({name: _TEXT for name in ("name", "digest", "source")}, ["name", "digest"])  # noqa: C420
    about = "Files, seen from this one's folder, and installed modules with a user's own losses, networks and data."
    return {"type": "array", "items": _any({**_TEXT, "minLength": 1}, stored), "description": about}


# A sweep


def _searched(schema: Any) -> Any:
    """Let a range or choices stand wherever the schema of a trial takes a value, but for names of methods."""
    if isinstance(schema, list):
        return [_searched(item) for item in schema]
    found = {}
    for key, inner in schema.items():
        if key == "properties":
            inner = {name: item if "const" in item else _choosable(name, item) for name, item in inner.items()}
        found[key] = _searched(inner) if key in ("anyOf", "allOf", "then") else inner
    return found


def _choosable(name: str, schema: Schema) -> Schema:
    """Take a value, choices of it, choices by their names, and a range of numbers."""
    value = {key: item for key, item in schema.items() if key not in ("description", "default")}
    told = {key: item for key, item in schema.items() if key not in value}
    options = [value, _choices(value)]
    kinds = {item.get("type") for item in value.get("anyOf", [value])} & {"integer", "number"}
    if kinds or name in WEIGHTS:
        options.append(_ref(next(iter(kinds), "number")))
    if name == "scales":
        menu = {**_SCALES, "minItems": 1, "maxItems": 8}
        options.append(_closed({"subsets_of": menu, "containing": _SCALES}, ["subsets_of"]))
    table = {key: _ref(cls.__name__) for key, cls in TAGGED[name].table.items()} if name in TAGGED else {}
    if name == "method":
        names = {cls: key for key, cls in METHODS.items()}
        classes = {**METHODS, **{row: type(method) for row, method in PAPER_ROWS.items()}}
        table = {key: _ref(f"method.{names[cls]}") for key, cls in classes.items()}
    if table:
        named = {key: _any(_NULL, inner) for key, inner in table.items()}
        options.append(_closed({"choices": _closed(named, minProperties=1)}, ["choices"]))
    return {**_any(*options), **told} if name != "training" else schema


def _choices(option: Schema) -> Schema:
    return _closed({"choices": {"type": "array", "items": option, "minItems": 1}}, ["choices"])


def _range(kind: str) -> Schema:
    number: Schema = {"type": kind}
    ends: dict[str, Schema] = {
        "low": number,
        "high": number,
        "log": {"type": "boolean"},
        "step": {**number, "exclusiveMinimum": 0},
    }
    return _closed(ends, ["low", "high"])


def _sweep() -> Schema:
    parts = _parts()
    networks = {part: _ref(part) for part in ("teacher", "student")}
    pair = _closed({"name": _NAME, **networks}, networks)
    own = {
        "name": {**_NAME, "description": "Of the sweep, its folder and its study."},
        "pairs": {"type": "array", "items": pair, "minItems": 2, "description": "Every trial trains all."},
        "pair": _choices(_closed(networks, networks)),
        **parts,
        **{part: _choosable(part, parts[part]) for part in ("teacher", "student", "method", "seed")},
        "search": _search(),
        "resources": _part(Resources),
    }
    return _closed(own, ["name"])


def _search() -> Schema:
    objective = _any(_names(METRICS), _closed(_fields(Objective, metric=_names(METRICS))))
    source = _closed({"from": _NAME, "top": _fields(Source)["top"]}, ["from"])
    changes: dict[str, Schema] = {part: {} for part in ("teacher", "student", "method", "training", "seed")}
    first = _any(_names(PAPER_ROWS), source, _closed({"label": _any(_NAME, _names(PAPER_ROWS)), **changes}, ["label"]))
    own = {
        "objective": _any(objective, {"type": "array", "items": objective, "minItems": 1}),
        "sampler": _part(SamplerConfig, "name"),
        "pruner": _part(PrunerConfig, "name"),
        "enqueue": _any(source, {"type": "array", "items": first}),
        "budget": _part(Budget),
        "rank": _names(RANK_NAMES, description="Of trials of several pairs."),
    }
    return _closed(own, description="How to search.")


def _part(cls: Any, name: str = "") -> Schema:
    """Take the fields of a part, all of which have defaults, or its name alone where it has one."""
    own = _fields(cls)
    alone = [{"enum": own[name]["enum"]}] if name else []
    return {**_any(*alone, _closed(own)), "description": _first(cls)}


if __name__ == "__main__":
    for _kind in get_args(Kind):
        Path(__file__).with_name(f"{_kind}.schema.json").write_text(text_of(_kind))
