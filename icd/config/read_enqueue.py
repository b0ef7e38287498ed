"""Reads names, pairs of networks, and what a sweep tries first: rows of the paper, changes, and other sweeps' best."""

import re
from collections.abc import Mapping
from typing import Any

from icd.config.document import KeyPath
from icd.config.forms import full_form
from icd.config.habits import meant
from icd.config.reader import MAPPING, MISSING_KEY, Reader
from icd.config.sweep import Baseline, Pair, Source
from icd.fields import annotations
from icd.methods import PAPER_ROWS

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_NAME_RULE = "must be 1 to 64 letters, digits, '.', '_' or '-', the first a letter or digit"
_CHANGES = ("teacher", "student", "method", "training", "seed")
_NETWORKS = ("teacher", "student")


def read_name(reader: Reader, data: Mapping[str, Any], path: KeyPath = (), key: str = "name") -> str:
    """Read a name that must be there."""
    name = data.get(key)
    if name is None:
        reader.note((*path, key), MISSING_KEY)
    elif not isinstance(name, str) or not _NAME.fullmatch(name):
        reader.note((*path, key), _NAME_RULE, value=name)
    return str(name)


def read_enqueue(reader: Reader, data: Any, sweep: str) -> tuple[list[tuple[KeyPath, Baseline]], list[Source]]:
    """Read ``search.enqueue``: a list, or one mapping with ``from``.

    Args:
        reader: Notes the problems.
        data: What the file says.
        sweep: Name of the sweep itself, which is no source.

    Returns:
        Baselines, each with its place, and sources.
    """
    place: KeyPath = ("search", "enqueue")
    baselines: list[tuple[KeyPath, Baseline]] = []
    sources: list[Source] = []
    alone = _is_source(data)
    if not (data is None or isinstance(data, list) or alone):
        hint = f"write search.enqueue: [{data}]" if isinstance(data, str) else ""
        reader.note(place, "must be a list of rows or mappings", value=data, hint=hint)
        return baselines, sources
    for index, item in enumerate([data] if alone else data or []):
        path: KeyPath = place if alone else (*place, index)
        if _is_source(item):
            source = _source(reader, item, path, sweep)
            if source and any(source.sweep == other.sweep for other in sources):
                reader.note((*path, "from"), "every sweep may be named once", value=source.sweep)
            elif source:
                sources.append(source)
            continue
        baseline = _baseline(reader, item, path)
        if baseline and any(baseline.label == other.label for _, other in baselines):
            reader.note(path, "every baseline needs a label of its own", value=baseline.label)
        elif baseline:
            baselines.append((path, baseline))
    return baselines, sources


def _is_source(item: Any) -> bool:
    return isinstance(item, dict) and "from" in item


def _source(reader: Reader, item: dict[str, Any], path: KeyPath, sweep: str) -> Source | None:
    before = len(reader.problems)
    reader.unknown_keys(item, ["from", "top"], path)
    name = read_name(reader, item, path, "from")
    if name == sweep:
        reader.note((*path, "from"), "must be another sweep than this one", value=name)
    top = reader.value(annotations(Source)["top"], item.get("top", Source(sweep=name).top), (*path, "top"))
    return Source(sweep=name, top=top) if len(reader.problems) == before else None


def _baseline(reader: Reader, item: Any, path: KeyPath) -> Baseline | None:
    if not isinstance(item, dict):
        if not isinstance(item, str) or item not in PAPER_ROWS:
            reader.note(path, "unknown recipe", value=item, hint=meant(item, list(PAPER_ROWS)))
            return None
        return Baseline(label=item, changes={"method": item})
    before = len(reader.problems)
    reader.unknown_keys(item, ["label", *_CHANGES], path)
    named = item.get("label")  # a row of the paper may be called what no sweep is called
    label = named if isinstance(named, str) and named in PAPER_ROWS else read_name(reader, item, path, "label")
    changes = {name: value for name, value in item.items() if name in _CHANGES and value is not None}
    return Baseline(label=label, changes=changes) if len(reader.problems) == before else None


def read_pairs(reader: Reader, data: Any) -> tuple[Pair, ...]:
    """Read the pairs that every trial is trained on; one without a name is called after its networks."""
    if not isinstance(data, list) or len(data) < 2:
        reader.note(("pairs",), "must be a list of at least two pairs of teacher and student", value=data)
        return ()
    found: list[Pair] = []
    for index, item in enumerate(data):
        path: KeyPath = ("pairs", index)
        pair = _pair(reader, item, path)
        # Names are names of folders, some of which do not tell capitals from small letters.
        if pair and any(pair.name.lower() == other.name.lower() for other in found):
            rule = "every pair needs a name of its own"
            reader.note(path, rule, value=pair.name, hint="give it one with 'name'")
        elif pair:
            found.append(pair)
    return tuple(found)


def _pair(reader: Reader, data: Any, path: KeyPath) -> Pair | None:
    if not isinstance(data, dict):
        reader.note(path, MAPPING, value=data)
        return None
    before = len(reader.problems)
    reader.unknown_keys(data, ["name", *_NETWORKS], path)
    networks = {part: full_form(part, data.get(part)) for part in _NETWORKS}
    for part, network in networks.items():
        if network is None:
            reader.note((*path, part), MISSING_KEY)
    archs = [
        str(network.get("arch", "")) if isinstance(network, dict) else str(network) for network in networks.values()
    ]
    name = read_name(reader, {"name": "-".join(archs), **data}, path)
    return Pair(name=name, **networks) if len(reader.problems) == before else None
