"""Guarded YAML events to plain data, with the line of every key, all bad keys and all secrets."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import yaml

from icd.config.yaml_guard import line_of
from icd.config.yaml_text import KeyPath, dotted, has_credentials, is_secret_name, is_storable, plain_scalar
from icd.errors import Problem, shorten

SECRET_KEY = "a key must not name a secret"
SECRET_HINT = "put it in the environment, not in YAML"


class Builder:
    """Builds plain data from guarded events, noting lines and collecting problems."""

    def __init__(self, events: Iterable[yaml.Event], source: str) -> None:
        self.events: Iterator[yaml.Event] = iter(events)
        self.source = source
        self.lines: dict[KeyPath, int] = {}
        self.problems: list[Problem] = []

    def build(self, event: yaml.Event, path: KeyPath) -> Any:
        """Build the node that starts with this event; recursion is bounded by the guard's depth."""
        self.lines.setdefault(path, line_of(event))
        if isinstance(event, yaml.ScalarEvent):
            return self._scalar(event, path)
        if isinstance(event, yaml.SequenceStartEvent):
            return self._sequence(path)
        return self._mapping(path)

    def _problem(self, event: yaml.Event, path: KeyPath, rule: str, hint: str = "") -> None:
        place, line = dotted(path), line_of(event)
        self.problems.append(Problem(rule=rule, source=self.source, line=line, path=place, hint=hint))

    def _scalar(self, event: yaml.ScalarEvent, path: KeyPath) -> str | int | float | bool | None:
        try:
            value = plain_scalar(event.value) if event.style is None else event.value
        except ValueError as error:
            self._problem(event, path, str(error))
            return None
        if isinstance(value, str):
            if not is_storable(value):
                self._problem(event, path, "a string must not hold NUL or half of a surrogate pair")
            if has_credentials(value):
                self._problem(event, path, "a URL must not hold credentials", SECRET_HINT)
        return value

    def _sequence(self, path: KeyPath) -> list[Any]:
        items: list[Any] = []
        for event in self.events:
            if isinstance(event, yaml.SequenceEndEvent):
                break
            items.append(self.build(event, (*path, len(items))))
        return items

    def _mapping(self, path: KeyPath) -> dict[str, Any]:
        mapping: dict[str, Any] = {}
        for event in self.events:
            if isinstance(event, yaml.MappingEndEvent):
                break
            key = self._key(event, path, mapping)
            known = len(self.problems)
            value = self.build(next(self.events), (*path, key))
            if is_secret_name(key):
                del self.problems[known:]  # what stands below may name parts of the secret
                self._problem(event, (*path, key), SECRET_KEY, SECRET_HINT)
            mapping[key] = value
        return mapping

    def _key(self, event: yaml.Event, path: KeyPath, mapping: Mapping[str, Any]) -> str:
        """Check a key; a bad one is a problem, and its text stands in so that reading goes on."""
        if not isinstance(event, yaml.ScalarEvent):
            known = len(self.problems)
            self.build(event, (*path, "?"))
            del self.problems[known:]
            self._problem(event, path, "a key must be a string, but got a list or mapping")
            return "?"
        key, child = event.value, (*path, event.value)
        if event.style is None and key == "<<":
            self._problem(event, child, "merge keys ('<<') are not allowed", "write the values out")
        elif not isinstance(self._scalar(event, child), str):
            self._problem(event, child, "a key must be a string", f"quote it: {shorten(key)}")
        elif key in mapping:
            self._problem(event, child, f"duplicate key, first set on line {self.lines[child]}")
        self.lines.setdefault(child, line_of(event))
        return key
