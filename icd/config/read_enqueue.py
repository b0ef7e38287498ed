"""Reads what a sweep tries first: rows of the paper, changes to the fixed part, and the best of other sweeps."""

import re
from typing import Any

from icd.config.read import Path, Reader
from icd.config.sweep import Baseline, Source
from icd.methods import PAPER_ROWS

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
NAME_RULE = "must be 1 to 64 letters, digits, '.', '_' or '-', the first a letter or digit"
_CHANGES = ("teacher", "student", "method", "protocol", "seed")


def read_enqueue(reader: Reader, data: Any, sweep: str) -> tuple[list[tuple[int, Baseline]], list[Source]]:
    """Read ``enqueue``: a list, or one mapping with ``from``.

    Args:
        reader: Notes the problems.
        data: What the file says.
        sweep: Name of the sweep itself, which is no source.

    Returns:
        Baselines, each with its place in the list, and sources.
    """
    baselines: list[tuple[int, Baseline]] = []
    sources: list[Source] = []
    if not (data is None or isinstance(data, list) or _is_source(data)):
        reader.problem(("enqueue",), "must be a list of rows or mappings", value=data)
        return baselines, sources
    alone = isinstance(data, dict)
    for index, item in enumerate([data] if alone else data or []):
        path: Path = ("enqueue",) if alone else ("enqueue", index)
        if _is_source(item):
            source = _source(reader, item, path, sweep)
            if source and any(source.sweep == other.sweep for other in sources):
                reader.problem((*path, "from"), "every sweep may be named once", value=source.sweep)
            elif source:
                sources.append(source)
            continue
        baseline = _baseline(reader, item, path)
        if baseline and any(baseline.label == other.label for _, other in baselines):
            reader.problem(path, "every baseline needs a label of its own", value=baseline.label)
        elif baseline:
            baselines.append((index, baseline))
    return baselines, sources


def _is_source(item: Any) -> bool:
    return isinstance(item, dict) and "from" in item


def _source(reader: Reader, item: dict[str, Any], path: Path, sweep: str) -> Source | None:
    before = len(reader.problems)
    reader.unknown_keys(item, ["from", "top"], path)
    name = item["from"]
    if not isinstance(name, str) or not NAME.fullmatch(name):
        reader.problem((*path, "from"), NAME_RULE, value=name)
    elif name == sweep:
        reader.problem((*path, "from"), "must be another sweep than this one", value=name)
    top = {"top": item["top"]} if "top" in item else {}
    values = reader.read_fields(Source, top, path)
    return Source(sweep=name, **values) if len(reader.problems) == before else None


def _baseline(reader: Reader, item: Any, path: Path) -> Baseline | None:
    if not isinstance(item, dict):
        row = reader.choice(item, PAPER_ROWS, path, "row")
        return Baseline(label=item, changes={"method": item}) if row else None
    before = len(reader.problems)
    reader.unknown_keys(item, ["label", *_CHANGES], path)
    label = item.get("label")
    if label is None:
        reader.problem((*path, "label"), "required key is missing")
    elif not isinstance(label, str) or not NAME.fullmatch(label):
        reader.problem((*path, "label"), NAME_RULE, value=label)
    changes = {name: value for name, value in item.items() if name in _CHANGES and value is not None}
    return Baseline(label=str(label), changes=changes) if len(reader.problems) == before else None
