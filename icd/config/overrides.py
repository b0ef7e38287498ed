"""``--set a.b[0]=value``: a value laid over a document at the path that messages and results show."""

import copy
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from icd.config.document import Document, KeyPath, dotted, full_form, without
from icd.config.plugins import with_sources
from icd.errors import ConfigError, Problem, shorten

_SEGMENT = re.compile(r"(?:^|\.)(?:'([^']+)'|([^.\[\]'=]+))|\[(\d{1,6})\]")
_FORM = "must look like KEY=VALUE, as in --set training.epochs=10"
_SECRET = re.compile(r"password|passwd|secret|token|api_?key|://[^/\s]*@", re.IGNORECASE)


def apply_overrides(document: Document, assignments: Sequence[str]) -> Document:
    """Give a copy of the document with ``--set`` assignments applied in order.

    The right side is YAML. Mappings on the way are made, lists do not grow. A path goes through ``choices`` without
    naming it, and into a short form: ``student.pretrained=true`` where the file says ``student: mobilenetv2``. Files of
    plugins are looked for from the current folder.

    Raises:
        ConfigError: With the problems of all assignments; the source of each is ``--set ...``.
    """
    from icd.config.yaml import parse_yaml

    data, origins = copy.deepcopy(document.data), dict(document.origins)
    problems: list[Problem] = list(document.problems) if assignments else []
    for assignment in assignments:
        key, equals, text = assignment.partition("=")
        found, label = list(_SEGMENT.finditer(key.strip())), _label(assignment)
        # A number between dots may be a key or an index.
        names = tuple(int(match[3]) if match[3] else match[1] or match[2] for match in found)
        try:
            if not equals or not names or "".join(match[0] for match in found) != key.strip():
                raise ConfigError(Problem(rule=_FORM, source=label))
            value = parse_yaml(text, label) if text.strip() else Document(None, label)
            if value.problems:
                raise ConfigError(value.problems)
            paths = _put(data, (), names, value.data, label)
        except ConfigError as error:
            problems += error.problems
            continue
        for path in paths:
            origins = {**without(origins, path), path: (label, None)}
            for end in range(1, len(path)):  # mappings that the assignment made
                origins.setdefault(path[:end], (label, None))
    if len(problems) > len(document.problems):
        raise ConfigError(problems)
    return with_sources(Document(data, document.source, origins, document.problems, document.broken), Path.cwd())


def _label(assignment: str) -> str:
    key = assignment.partition("=")[0]
    shown = f"{key}=***" if _SECRET.search(assignment) else assignment
    return f"--set {shown if shown.isprintable() and len(shown) <= 100 else shorten(shown, 100)}"


def _put(node: Any, path: KeyPath, names: KeyPath, value: Any, source: str) -> list[KeyPath]:
    """Put a value below a node; give where it was put, which is several places where several options have it."""
    name = names[0]
    if isinstance(node, dict) and "choices" in node and name != "choices":  # one of several options
        node, path = node["choices"], (*path, "choices")
        if isinstance(node, dict) and name not in node:
            having = [key for key in node if _reaches(node[key], names)]
            having = having or [key for key in node if _reaches(node[key], names[:1])]
            places = [_put(node[key], (*path, key), names, copy.deepcopy(value), source) for key in having]
            if places:
                return [place for found in places for place in found]
        for index, item in enumerate(node if isinstance(node, list) else ()):
            if item == name or (isinstance(item, dict) and list(item) == [name]):
                node[index] = {name: {}} if item == name else item
                node, path = node[index], (*path, index)
                break
    key: Any = int(name) if isinstance(node, list) and str(name).isdecimal() else name
    if isinstance(key, int) and isinstance(node, list) and key >= len(node):
        rule = f"the list has {len(node)} items, counted from 0, so it has no [{key}]"
        raise ConfigError(Problem(rule=rule, source=source, path=dotted(path)))
    if not isinstance(node, list if isinstance(key, int) else dict):
        what = "a list to take an index" if isinstance(key, int) else f"a mapping to take the key {key!r}"
        raise ConfigError(Problem(rule=f"must be {what}", source=source, path=dotted(path), value=node))
    inside: Any = node
    if len(names) == 1:
        inside[key] = value
        return [(*path, key)]
    child = full_form(key, inside.get(key) if isinstance(node, dict) else inside[key])
    inside[key] = {} if child is None else child  # a part that is missing is made
    return _put(inside[key], (*path, key), names[1:], value, source)


def _reaches(node: Any, names: KeyPath) -> bool:
    """Whether an option has a value at a path."""
    if not names or not isinstance(node, dict):
        return not names
    if names[0] in node:
        return _reaches(node[names[0]], names[1:])
    options = node.get("choices")
    return isinstance(options, dict) and any(_reaches(option, names) for option in (options, *options.values()))
