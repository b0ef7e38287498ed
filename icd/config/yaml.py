"""Strict YAML: plain data with line numbers, every surprise of YAML refused with a sentence.

Anchors, aliases, merge keys, tags, several documents, duplicate keys and keys that are not strings are
refused; so are files over 256 KiB, 32 levels or 20,000 nodes, before anything is built from them. Scalars
follow the YAML 1.2 core schema, not PyYAML's 1.1. Secrets are refused and never printed.
"""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from itertools import islice
from pathlib import Path
from typing import Any

import yaml

from icd.config import yaml_overrides as sets
from icd.config.yaml_builder import Builder
from icd.config.yaml_guard import MAX_BYTES, MAX_DEPTH, MAX_NODES, decode, guarded_events, refuse
from icd.config.yaml_text import KeyPath, dotted
from icd.errors import ConfigError, Problem, shorten

__all__ = ["Document", "KeyPath", "apply_overrides", "dotted", "parse_yaml", "read_yaml"]


@dataclass(frozen=True, slots=True)
class Document:
    """Plain data and where each part of it came from.

    Attributes:
        data: Only str, int, float, bool, None, list and dict.
        source: The file, as messages name it.
        lines: Line of the key or list item at each path of the file.
        overrides: The ``--set`` that gave the value at a path.
    """

    data: Any
    source: str
    lines: Mapping[KeyPath, int] = field(default_factory=dict, repr=False, compare=False)
    overrides: Mapping[KeyPath, str] = field(default_factory=dict, repr=False, compare=False)

    def line(self, path: KeyPath) -> int | None:
        """Give the line of the key or item at a path, or nearest ancestor; None where ``--set`` gave it."""
        return self.origin(path)[1]

    def origin(self, path: KeyPath) -> tuple[str, int | None]:
        """Give source and line for a message about a path: the file's, or ``--set ...`` and None."""
        for end in range(len(path), -1, -1):
            if path[:end] in self.overrides:
                return self.overrides[path[:end]], None
            if path[:end] in self.lines:
                return self.source, self.lines[path[:end]]
        return self.source, None


def read_yaml(path: Path) -> Document:
    """Read a YAML file.

    Raises:
        ConfigError: If it is missing, unreadable, empty, too large or not strict YAML.
    """
    name = str(path)
    source = name if name.isprintable() else shorten(name)
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_BYTES + 1)
    except FileNotFoundError:
        raise refuse("no such file", source, hint=_similar_file(path)) from None
    except IsADirectoryError:
        raise refuse("must be a file, but is a directory", source) from None
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        reason = getattr(error, "strerror", None) or "not a path"
        raise refuse(f"cannot be read: {reason.lower()}", source) from None
    return parse_yaml(decode(raw, source), source)


def parse_yaml(text: str, source: str) -> Document:
    """Parse YAML text; ``source`` is what messages call it.

    Raises:
        ConfigError: With the first broken limit or syntax error, or else with every bad key and secret.
    """
    events = guarded_events(text, source)
    root = events[2] if len(events) > 3 else None  # after StreamStart and DocumentStart
    if root is None or (isinstance(root, yaml.ScalarEvent) and root.style is None and not root.value):
        raise refuse("must not be empty", source)
    builder = Builder(events[3:], source)
    data = builder.build(root, ())
    if builder.problems:
        raise ConfigError(builder.problems)
    return Document(data, source, builder.lines)


def apply_overrides(document: Document, assignments: Sequence[str]) -> Document:
    """Give a copy of the document with ``--set`` assignments applied in order.

    Each reads like ``base_loss.scales[1]=4``. The right side is YAML. Missing mappings on the
    way are created; lists do not grow.

    Raises:
        ConfigError: With the problems of all assignments; the source of each is ``--set ...``.
    """
    data, lines, overrides = copy.deepcopy(document.data), dict(document.lines), dict(document.overrides)
    problems: list[Problem] = []
    for assignment in assignments:
        try:
            path, created = _assign(data, assignment)
        except ConfigError as error:
            problems += error.problems
            continue
        lines = {old: line for old, line in lines.items() if old[: len(path)] != path}
        overrides = {old: label for old, label in overrides.items() if old[: len(path)] != path}
        overrides |= dict.fromkeys([*created, path], sets.label(assignment))
    if not problems and assignments and sets.measure(data)[1] > MAX_NODES:
        problems = [Problem(rule=f"must not hold more than {MAX_NODES} keys and values", source="--set")]
    if problems:
        raise ConfigError(problems)
    return Document(data, document.source, lines, overrides)


def _assign(data: Any, assignment: str) -> tuple[KeyPath, list[KeyPath]]:
    names, text = sets.split(assignment)
    try:
        value = parse_yaml(text, "--set").data if text else None  # as after "key:" in a file
    except ConfigError as error:
        raise sets.moved(error, names, assignment) from None
    if len(names) + sets.measure(value)[0] > MAX_DEPTH:
        raise refuse(f"must not be nested deeper than {MAX_DEPTH}", sets.label(assignment))
    return sets.place(data, names, value, sets.label(assignment))


def _similar_file(path: Path) -> str:
    try:
        names = [entry.name for entry in islice(path.parent.iterdir(), 1000) if entry.is_file()]
    except OSError:
        return ""
    close = get_close_matches(path.name, names, n=1)
    return f"did you mean {close[0]!r}?" if close else ""
