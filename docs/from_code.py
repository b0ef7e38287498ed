"""A Sphinx directive that writes reference tables from the code: ``{from-code} sweep-file`` and the others below.

The tables hold what ``icd schema``, ``icd methods`` and ``icd --help`` know, so no page repeats a default or a range by
hand.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from docutils import nodes
from docutils.statemachine import StringList
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from icd.config.json_schema import schema_of
from icd.config.sweep import METRICS
from icd.data import DATASETS
from icd.errors import IcdError
from icd.losses import BASE_LOSSES
from icd.methods import METHODS, PAPER_ROWS
from icd.models import MODELS

_PARTS = ("data", "teacher", "student", "method", "training", "search", "resources")


def _cell(text: object) -> str:
    return str(text).replace("|", "\\|").replace("\n", " ").replace("``", "`")


def _table(head: tuple[str, ...], rows: Iterator[tuple[object, ...]]) -> Iterator[str]:
    yield f"| {' | '.join(head)} |"
    yield f"|{'---|' * len(head)}"
    for row in rows:
        yield f"| {' | '.join(map(_cell, row))} |"
    yield ""


def _bounds(schema: Mapping[str, Any]) -> str:
    names = {"exclusiveMinimum": "above", "minimum": "from", "exclusiveMaximum": "below", "maximum": "to"}
    return " ".join(f"{word} {schema[name]:g}" for name, word in names.items() if schema.get(name, 2**63 - 1) < 2**63 - 1)


def _kind(schema: Mapping[str, Any], defs: Mapping[str, Any]) -> str:
    """Say in words what a value may be."""
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return _kind(defs[name], defs) if "type" in defs[name] and defs[name]["type"] != "object" else f"`{name}`"
    if "enum" in schema:
        return ", ".join(f"`{value}`" for value in schema["enum"])
    if "const" in schema:
        return f"`{schema['const']}`"
    for word in ("anyOf", "oneOf"):
        if word in schema:
            return " or ".join(dict.fromkeys(_kind(option, defs) for option in schema[word]))
    kind = schema.get("type", "any value")
    if kind == "array":
        return f"list of {_kind(schema['items'], defs)}" if "items" in schema else "list"
    return {"object": "mapping", "null": "none"}.get(kind, f"{kind} {_bounds(schema)}".strip())


def _fields(schema: Mapping[str, Any], defs: Mapping[str, Any]) -> Iterator[tuple[object, ...]]:
    for name, value in schema.get("properties", {}).items():
        default = value.get("default")
        shown = "" if "default" not in value else "none" if default is None else f"`{str(default).lower()}`"
        yield f"`{name}`", _kind(value, defs), shown, value.get("description", "")


def _objects(schema: Mapping[str, Any], defs: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """Give every mapping with named keys that a schema allows."""
    if "$ref" in schema:
        yield from _objects(defs[schema["$ref"].rpartition("/")[2]], defs)
    elif "properties" in schema:
        yield schema
    else:
        for option in (*schema.get("anyOf", ()), *schema.get("oneOf", ())):
            yield from _objects(option, defs)


def _sweep_file() -> Iterator[str]:
    schema = schema_of("sweep")
    defs = schema["$defs"]
    head = ("key", "value", "default", "meaning")
    yield from _table(("key", "meaning"), ((f"`{k}`", v.get("description", "")) for k, v in schema["properties"].items()))
    for part in _PARTS:
        for found in _objects(schema["properties"][part], defs):
            if "choices" in found["properties"]:
                continue
            name = found["properties"].get("name", {}).get("const")
            yield f"## `{part}`" + (f": `{name}`" if name else "")
            yield ""
            yield from _table(head, _fields(found, defs))
            for key, value in found["properties"].items():
                for inner in _objects(value, defs) if part == "search" else ():
                    yield f"### `{part}.{key}`"
                    yield ""
                    yield from _table(head, _fields(inner, defs))


def _rows(table: Mapping[str, Any]) -> Iterator[str]:
    titles = ((f"`{name}`", getattr(entry, "title", "")) for name, entry in table.items())
    yield from _table(("name", "what it is"), titles)


def _methods() -> Iterator[str]:
    yield "### Base losses\n"
    yield from _rows(BASE_LOSSES)
    yield "### Methods\n"
    yield from _rows(METHODS)
    yield "### Recipes\n"
    yield ", ".join(f"`{name}`" for name in PAPER_ROWS) + ". `icd methods NAME` prints each with all of its fields."
    yield ""


def _names() -> Iterator[str]:
    yield "Networks: " + ", ".join(f"`{name}`" for name in MODELS) + ".\n"
    yield "Data sets: " + ", ".join(f"`{name}`" for name in DATASETS) + ".\n"
    yield "Objectives: " + ", ".join(f"`{name}` ({way})" for name, way in METRICS.items()) + "."


def _errors() -> Iterator[str]:
    found = [kind for kind in IcdError.__subclasses__() if kind.code != "BUG"]
    rows = ((kind.exit_code, f"`{kind.code}`", (kind.__doc__ or "").partition("\n")[0]) for kind in found)
    yield from _table(("exit code", "in the message", "meaning"), iter(sorted(rows)))


WRITERS: Mapping[str, Callable[[], Iterator[str]]] = {
    "sweep-file": _sweep_file,
    "methods": _methods,
    "names": _names,
    "errors": _errors,
}


class FromCode(SphinxDirective):
    """Put the tables of one writer where the directive stands."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        lines = "\n".join(WRITERS[self.arguments[0]]()).splitlines()
        section = nodes.section()
        section.document = self.state.document
        self.state.nested_parse(StringList(lines, source="from_code"), 0, section, match_titles=True)
        return section.children


def setup(app: Sphinx) -> dict[str, bool]:
    """Add the directive."""
    app.add_directive("from-code", FromCode)
    return {"parallel_read_safe": True}
