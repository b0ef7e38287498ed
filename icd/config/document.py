"""A document: plain data, and for each part of it the file and line, or the ``--set``, that it came from.

Also its short forms: ``student: resnet8`` for ``student: {arch: resnet8}``, and what a range looks like.
"""

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

from icd.errors import Absent, ConfigError, DataError, Problem, shorten
from icd.register import TAGGED

KeyPath = tuple[str | int, ...]
Origin = tuple[str, int | None]  # file and line, or "--set a=1" and None
Origins = Mapping[KeyPath, Origin]

_PLAIN_KEY = re.compile(r"[A-Za-z0-9_-]{1,64}")

TOP = ("data", "pair", "teacher", "student", "method", "training", "seed")  # parts of a template, in their order
SWEEP_KEYS = ("name", "pairs", "pair", "search", "resources")  # keys of a sweep's file that no trial has
WEIGHTS = ("cluster_scale_weights", "base_scale_weights")
RANGE_KEYS = ("low", "high", "choices", "subsets_of")

# What a name alone stands for, by the key that it is the value of; in a sweep's file some stand under ``search``.
_KEY_OF = {
    "data": "name",
    "student": "arch",
    "teacher": "arch",
    "training": "preset",
    "sampler": "name",
    "pruner": "name",
    "objective": "metric",
}


def full_form(name: str | int, value: Any) -> Any:
    """Write a name that stands for a mapping as that mapping; anything else stays as it is."""
    if not isinstance(value, str):
        return value
    if name == "method":
        from icd.methods import METHODS  # torch, which whoever only shows documents does without

        return {"name" if value in METHODS else "recipe": value}
    if name in TAGGED:
        return {value: {}}
    return {_KEY_OF[str(name)]: value} if name in _KEY_OF else value


def is_range(value: Any) -> bool:
    """Whether a value of a sweep's file is searched: ``{low, high}``, ``{choices}`` or ``{subsets_of}``."""
    return isinstance(value, Mapping) and any(key in value for key in RANGE_KEYS)


@dataclass(frozen=True, slots=True)
class Document:
    """Plain data (str, int, float, bool, None, list and dict) and where each part of it came from.

    A trial that a sweep made knows the sweep's ``file``, and where its parts have ``moved`` to from there.
    """

    data: Any
    source: str  # the file, as messages name it
    origins: Origins = field(default_factory=dict, repr=False)  # of the key or list item at each path
    problems: tuple[Problem, ...] = ()  # of the text, such as a key that is there twice
    broken: tuple[KeyPath, ...] = ()  # where those are
    moved: Mapping[KeyPath, KeyPath] = field(default_factory=dict, repr=False)
    file: Any = None

    def place(self, path: KeyPath) -> KeyPath:
        """Say where a part of the data stands in the file: a short form has no parts, a sweep's options have more."""
        end = next((end for end in range(len(path), -1, -1) if path[:end] in self.moved), None)
        known = path if end is None else (*self.moved[path[:end]], *path[end:])
        node, name = self.data if self.file is None else self.file, ""
        for end, key in enumerate(known):
            if isinstance(node, str) and isinstance(form := full_form(name, node), dict) and key not in form:
                return known  # a field beside what the short form says
            if node is not None and not isinstance(node, dict | list):
                return known[:end]
            parts = dict(enumerate(node)) if isinstance(node, list) else node or {}
            node, name = parts.get(key), key if isinstance(key, str) and key != "choices" else name
        return known

    def origin(self, path: KeyPath) -> Origin:
        """Give source and line of a path in the file, or of what it stands in."""
        above = (path[:end] for end in range(len(path), -1, -1))
        return next((self.origins[part] for part in above if part in self.origins), (self.source, None))

    def problem(
        self, path: KeyPath, rule: str, *, key: KeyPath = (), value: object = Absent, hint: str = ""
    ) -> Problem:
        """Say what is wrong at a path, or with a ``key`` there, whatever its value is."""
        place = (*self.place(path), *key)
        source, line = self.origin(place)
        return Problem(rule=rule, source=source, line=line, path=dotted(place), value=value, hint=hint)

    @contextmanager
    def located(self) -> Iterator[None]:
        """Give problems that are found later, such as images of another size, the line that caused them."""
        try:
            yield
        except ConfigError as error:
            places = [(problem, self.origin(tuple(problem.path.split(".")))) for problem in error.problems]
            raise ConfigError(
                problem if problem.source or not problem.path else replace(problem, source=source, line=line)
                for problem, (source, line) in places
            ) from error
        except DataError as error:
            if not error.path:
                raise
            raise DataError(str(self.problem(tuple(error.path.split(".")), str(error)))) from error


def dotted(path: KeyPath) -> str:
    """Write a path as messages show it and ``--set`` takes it: ``method.scales[1]``; odd keys are quoted."""
    shown = (key if isinstance(key, int) or _PLAIN_KEY.fullmatch(key) else shorten(key) for key in path)
    return "".join(f"[{key}]" if isinstance(key, int) else f".{key}" for key in shown).removeprefix(".")


def in_order(problems: list[Problem]) -> list[Problem]:
    """Sort problems as they stand in the file and leave out those that are told twice."""
    found = {(item.source, item.line, item.path, item.rule): item for item in problems}
    return sorted(found.values(), key=lambda item: (item.source, item.line or 0))


def laid_over(below: Document, above: Document) -> Document:
    """Lay a document over the one that it names with ``extends: FILE``.

    Mappings are laid over mappings key by key. Ranges, choices, lists, a base loss and an augmentation replace what
    was there.
    """
    replaced: list[KeyPath] = []
    data = {name: value for name, value in above.data.items() if name != "extends"}
    merged = _merged(below.data if isinstance(below.data, dict) else {}, data, (), replaced)
    origins = {**without(below.origins, *replaced), **above.origins}
    problems, broken = (*below.problems, *above.problems), (*below.broken, *above.broken)
    return Document(merged, above.source, origins, problems, broken)


def _merged(below: Any, above: Any, path: KeyPath, replaced: list[KeyPath]) -> Any:
    name = path[-1] if path else ""
    first, second = full_form(name, below), full_form(name, above)
    whole = name in TAGGED or is_range(first) or is_range(second)  # one thing, which another replaces
    if isinstance(first, dict) and isinstance(above, dict) and not whole:
        inner = {key: _merged(first.get(key), value, (*path, key), replaced) for key, value in above.items()}
        return {**first, **inner}
    replaced.append(path)
    return above


def without(origins: Origins, *paths: KeyPath) -> dict[KeyPath, Origin]:
    """Leave out where the parts at some paths, and those below them, came from."""
    return {old: origin for old, origin in origins.items() if not any(old[: len(path)] == path for path in paths)}
