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
_MANY = 12  # names of a table that are listed; of more, `icd models` and the like have the list


def _cell(text: object) -> str:
    return str(text).replace("|", "\\|").replace("\n", " ").replace("``", "`")


def _table(head: tuple[str, ...], rows: Iterator[tuple[object, ...]]) -> Iterator[str]:
    yield f"| {' | '.join(head)} |"
    yield f"|{'---|' * len(head)}"
    for row in rows:
        yield f"| {' | '.join(map(_cell, row))} |"
    yield ""


def _bounds(schema: Mapping[str, Any]) -> str:
    words = {"exclusiveMinimum": "above", "minimum": "from", "exclusiveMaximum": "below", "maximum": "to"}
    known = {word: schema[name] for name, word in words.items() if name in schema}
    return " ".join(f"{word} {bound:g}" for word, bound in known.items() if bound < 2**63 - 1)


def _resolved(schema: Mapping[str, Any], defs: Mapping[str, Any]) -> Mapping[str, Any]:
    """Follow a reference to a shared definition."""
    return {**defs[schema["$ref"].rpartition("/")[2]], **schema} if "$ref" in schema else schema


def _is_range(schema: Mapping[str, Any]) -> bool:
    return not {"choices", "low", "subsets_of"}.isdisjoint(schema.get("properties", {}))


def _kind(schema: Mapping[str, Any], defs: Mapping[str, Any]) -> str:
    """Say in words what a value may be; that it may be a range is said once for all."""
    found = _resolved(schema, defs)
    if "enum" in found:
        return ", ".join(f"`{value}`" for value in found["enum"]) if len(found["enum"]) <= _MANY else "name"
    if "const" in found:
        return f"`{found['const']}`"
    if options := found.get("anyOf", found.get("oneOf")):
        kinds = (_kind(option, defs) for option in options if not _is_range(_resolved(option, defs)))
        return " or ".join(dict.fromkeys(filter(None, kinds)))
    kind = found.get("type", "")
    if kind == "array":
        return f"list of {_kind(found['items'], defs)}" if "items" in found else "list"
    return {"object": "mapping", "null": "none"}.get(kind, f"{kind} {_bounds(found)}".strip())


def _fields(keys: Mapping[str, Any], defs: Mapping[str, Any]) -> Iterator[tuple[object, ...]]:
    for name, value in keys.items():
        found = _resolved(value, defs)
        default = found.get("default")
        shown = "" if "default" not in found else "none" if default is None else f"`{str(default).lower()}`"
        yield f"`{name}`", _kind(found, defs), shown, found.get("description", "")


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
    keys = ((f"`{key}`", value.get("description", "")) for key, value in schema["properties"].items())
    yield "## The whole file\n"
    yield from _table(("key", "meaning"), keys)
    for part in _PARTS:
        options = [
            found for found in _objects(schema["properties"][part], defs) if "choices" not in found["properties"]
        ]
        shared = _shared(options)
        yield f"## `{part}`\n"
        yield from _table(head, _fields(shared, defs)) if shared else ()
        for found in options if len(options) > 1 else ():
            own = {name: value for name, value in found["properties"].items() if name not in shared}
            if named := own.pop("name", {}).get("const"):
                yield f"### `{part}`: `{named}`\n"
                yield from _table(head, _fields(own, defs)) if own else ["No further keys.\n"]
        for key, value in shared.items() if part == "search" else ():
            for inner in _objects(value, defs):
                yield f"### `{part}.{key}`\n"
                yield from _table(head, _fields(inner["properties"], defs))


def _shared(options: list[Mapping[str, Any]]) -> Mapping[str, Any]:
    """Give the keys that all mappings have with one meaning."""
    first, *others = [found["properties"] for found in options]
    return {name: value for name, value in first.items() if all(other.get(name) == value for other in others)}


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
