"""Reads a document's list of plugins, imports them, and says which of them a trial uses."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

from icd.config.document import Document
from icd.data import DATASETS
from icd.data.views import VIEW_FAMILIES
from icd.errors import ConfigError, Problem
from icd.losses import BASE_LOSSES
from icd.methods import METHODS
from icd.models import MODELS
from icd.plugins import Plugin, activate, resolve
from icd.registry import Registry


def read_plugins(document: Document, problems: list[Problem]) -> tuple[Plugin, ...]:
    """Import a document's plugins; what is wrong is noted and left out."""
    items = document.data.get("plugins")
    if items is None:
        return ()
    if not isinstance(items, list):
        problems.append(document.problem(("plugins",), "must be a list of files and modules", value=items))
        return ()
    found: list[Plugin] = []
    for index, item in enumerate(items):
        try:
            plugin = resolve(item, Path.cwd())
            if any(other.name == plugin.name and other != plugin for other in found):
                raise ConfigError(Problem(rule=f"another plugin is called {plugin.name}; rename one of the files"))
            activate([*found, plugin])
            found.append(plugin)
        except ConfigError as error:
            for problem in error.problems:
                rule = str(problem) if not problem.has_value else problem.rule
                value = {"value": problem.value} if problem.has_value else {}
                problems.append(document.problem(("plugins", index), rule, hint="", **value))
    return tuple(dict.fromkeys(found))


def used_plugins(config: Any, listed: Sequence[Plugin] = ()) -> tuple[Plugin, ...]:
    """Give the plugins that register something a configuration names, those that are listed in that order."""
    order = {plugin: place for place, plugin in enumerate(listed)}
    found = dict.fromkeys(owner for _, _, owner in owners([config]) if isinstance(owner, Plugin))
    return tuple(sorted(found, key=lambda plugin: (order.get(plugin, len(order)), plugin.name)))


def owners(parts: Iterable[Any]) -> Iterator[tuple[str, str, object]]:
    """Give what each part of a trial names, and who registered it: what it is, its name, a plugin or a module."""
    if any(table.has_added for table in (BASE_LOSSES, METHODS, VIEW_FAMILIES, MODELS, DATASETS)):
        yield from _owners(parts)


def _owners(parts: Iterable[Any]) -> Iterator[tuple[str, str, object]]:
    for part in parts:
        if not is_dataclass(part) or isinstance(part, type):
            continue
        for table in (BASE_LOSSES, METHODS, VIEW_FAMILIES):
            name, owner = table.name_of(type(part)), table.owner_of(type(part))
            if name is not None and owner is not None:
                yield table.what, name, owner
        named: list[tuple[str, Registry[Any]]] = [("arch", MODELS), ("name", DATASETS)]
        for key, rows in named:
            value = getattr(part, key, None)
            if isinstance(value, str) and (owner := rows.owner(value)) is not None:
                yield rows.what, value, owner
        yield from _owners(getattr(part, field.name) for field in fields(part))
