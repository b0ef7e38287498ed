"""The pieces of ``--set a.b[0]=value``: its name in messages, its path, placing its value in plain data."""

import re
from dataclasses import replace
from typing import Any

from icd.config.yaml_builder import SECRET_HINT, SECRET_KEY
from icd.config.yaml_guard import MAX_DEPTH, refuse
from icd.config.yaml_text import KeyPath, dotted, has_credentials, is_secret_name
from icd.errors import ConfigError, Problem, shorten

_SEGMENT = re.compile(r"([^.\[\]]*)((?:\[[0-9]{1,6}\])*)")
_SAFE_KEY = re.compile(r"[A-Za-z0-9_.\[\]-]{1,100}")
_FORM = "must look like key=value, as in protocol.epochs=20"


def label(assignment: str, *, secret: bool = False) -> str:
    """Name an assignment in messages; where anything in it looks like a secret, without its value."""
    if secret or is_secret_name(assignment) or has_credentials(assignment):
        key = assignment.partition("=")[0].strip()
        return f"--set {key}=***" if _SAFE_KEY.fullmatch(key) else "--set ***"
    plain = assignment.isprintable() and len(assignment) <= 100
    return f"--set {assignment if plain else shorten(assignment, 100)}"


def split(assignment: str) -> tuple[KeyPath, str]:
    """Split ``a.b[0]=text`` into path and text; a bare number may be a key or an index, so it stays text."""
    source = label(assignment)
    key, equals, text = assignment.partition("=")
    if not equals:
        raise refuse(_FORM, source)
    path: list[str | int] = []
    for number, segment in enumerate(key.strip().split(".")):
        match = _SEGMENT.fullmatch(segment)
        if match is None or not (match[1] or (number == 0 and match[2])) or not segment.isprintable():
            raise refuse(_FORM, source, hint="no part of the key may be empty, and an index is [0] or .0")
        path += [match[1]] if match[1] else []
        path += [int(index) for index in re.findall(r"[0-9]+", match[2])]
    if any(isinstance(name, str) and is_secret_name(name) for name in path) or has_credentials(key):
        raise refuse(SECRET_KEY, source, hint=SECRET_HINT)
    if len(path) > MAX_DEPTH:
        raise refuse(f"must not be nested deeper than {MAX_DEPTH}", source)
    return tuple(path), text.strip()


def moved(error: ConfigError, path: KeyPath, assignment: str) -> ConfigError:
    """Give the error of a right-hand side as an error of the whole assignment."""
    secret = any(problem.hint == SECRET_HINT for problem in error.problems)
    source, target = label(assignment, secret=secret), dotted(path)
    return ConfigError(
        replace(problem, source=source, line=None, path=_join(target, problem.path)) for problem in error.problems
    )


def _join(target: str, path: str) -> str:
    return f"{target}{'' if path.startswith('[') or not path else '.'}{path}"


def place(data: Any, names: KeyPath, value: Any, source: str) -> tuple[KeyPath, list[KeyPath]]:
    """Put a value into data; give its path and the paths of the mappings created on the way."""
    node, done = data, KeyPath()
    created: list[KeyPath] = []
    for name in names[:-1]:
        key = _step(node, name, done, source)
        done = (*done, key)
        if isinstance(node, dict) and key not in node:
            node[key] = {}
            created.append(done)
        node = node[key]
    key = _step(node, names[-1], done, source)
    node[key] = value
    return (*done, key), created


def _step(node: Any, name: str | int, path: KeyPath, source: str) -> str | int:
    """Give the key or index that a name means in a node."""
    here = dotted(path)
    if isinstance(node, dict):
        if isinstance(name, int):
            raise ConfigError(Problem(rule=f"must be a list to take the index [{name}]", source=source, path=here))
        return name
    if not isinstance(node, list):
        rule = f"must be a mapping or a list to set {name!r} in it"
        raise ConfigError(Problem(rule=rule, source=source, path=here, value=node, has_value=True))
    if isinstance(name, str) and not re.fullmatch(r"[0-9]{1,6}", name):
        raise ConfigError(Problem(rule=f"must be a mapping to take the key {name!r}", source=source, path=here))
    if int(name) >= len(node):
        rule = f"the list has {len(node)} items, counted from 0, so it has no [{int(name)}]"
        raise ConfigError(Problem(rule=rule, source=source, path=here))
    return int(name)


def measure(value: Any) -> tuple[int, int]:
    """Give the depth and the number of nodes of plain data, keys included."""
    if isinstance(value, dict):
        parts, own = [measure(item) for item in value.values()], 1 + len(value)
    elif isinstance(value, list):
        parts, own = [measure(item) for item in value], 1
    else:
        return 0, 1
    return 1 + max((depth for depth, _ in parts), default=0), own + sum(nodes for _, nodes in parts)
