"""Strict YAML: plain data with the line of every key; each surprise of YAML is refused with a sentence.

Anchors, aliases, merge keys, tags and several documents are refused; so are keys that stand twice or are no text, and
files of more than 256 KiB or 32 levels. Scalars follow YAML 1.2: ``1e-3`` is a number and ``no`` is a word.
"""

import os
import re
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import yaml

from icd.config.document import Document, KeyPath, Origin, dotted, laid_over
from icd.config.overrides import apply_overrides
from icd.config.plugins import with_ambient, with_sources
from icd.errors import ConfigError, Problem, did_you_mean, shorten

__all__ = ["Document", "KeyPath", "apply_overrides", "dotted", "parse_yaml", "read_yaml"]

MAX_BYTES, MAX_DEPTH, MAX_DIGITS, MAX_EXTENDS = 256 * 1024, 32, 100, 8
_SPACE, _INDENT = re.compile(r"\s+"), re.compile(r"[ \t]*")
# What YAML calls printable, less NEL, LS and PS: PyYAML ends a line there, an editor does not.
_FORBIDDEN = re.compile("[^\t\n\r\x20-\x7e\xa0-\u2027\u202a-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_CREDENTIALS = re.compile(r"https?://[^\s/?#@]+@|://[^\s/?#@:]*:[^\s/?#@]*@", re.IGNORECASE)


class _Loader(yaml.SafeLoader):
    """Composes nodes with numbers and truth values as YAML 1.2 has them, and no anchors or tags."""

    yaml_implicit_resolvers: dict[Any, Any] = {}  # noqa: RUF012 - the library's own name
    depth = 0

    def __init__(self, text: str, source: str) -> None:
        super().__init__(text)
        self.source = source

    def compose_node(self, parent: Any, index: Any) -> Any:
        event: Any = self.peek_event()  # type: ignore[no-untyped-call]
        line = event.start_mark.line + 1
        if getattr(event, "anchor", None) is not None:
            hint = "write the value out, or quote text that starts with '&' or '*'"
            raise _refusal(self.source, line, "anchors ('&') and aliases ('*') are not allowed", hint)
        if getattr(event, "tag", None) is not None:
            raise _refusal(self.source, line, "tags ('!') are not allowed", "quote text that starts with '!'")
        if self.depth > MAX_DEPTH:
            raise _refusal(self.source, line, f"must not be nested deeper than {MAX_DEPTH}")
        self.depth += 1
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node


for _tag, _pattern in {
    "null": r"~|null|Null|NULL|",
    "bool": r"true|True|TRUE|false|False|FALSE",
    "int": r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+",
    "float": r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)",
}.items():
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(rf"(?:{_pattern})\Z"), None)


class _Dumper(yaml.SafeDumper):
    """Quotes text that the loader above, or one of YAML 1.1, would read as something else; writes no anchors."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


for _first, _rows in _Loader.yaml_implicit_resolvers.items():
    for _tag, _compiled in _rows:
        _Dumper.add_implicit_resolver(_tag, _compiled, None if _first is None else [_first])


def yaml_text(data: Any, **layout: Any) -> str:
    """Write plain data as YAML that ``parse_yaml`` reads as the same data; ``layout`` is for PyYAML's ``dump``."""
    text: str = yaml.dump(data, Dumper=_Dumper, sort_keys=False, **layout)
    return text


def read_yaml(path: Path, overrides: Sequence[str] = ()) -> Document:
    """Read a YAML file, and the file that it extends, with ``--set`` overrides laid over it.

    Raises:
        ConfigError: If it is missing, unreadable, empty, too large or not strict YAML, or for the overrides.
    """
    return apply_overrides(with_ambient(_extended(path, ())), overrides)


def _extended(path: Path, above: tuple[str, ...]) -> Document:
    source = str(path) if str(path).isprintable() else shorten(str(path))
    document = parse_yaml(_text(path, source), source)
    document = with_sources(document, path.parent)
    if not isinstance(document.data, dict) or "extends" not in document.data:
        return document
    base, where = document.data["extends"], ("extends",)
    if not isinstance(base, str) or not base:
        raise ConfigError(document.problem(where, "must be the name of a file", value=base))
    if (real := os.path.realpath(path)) in above or len(above) >= MAX_EXTENDS:
        rule = f"must end: at most {MAX_EXTENDS} files, none of them twice"
        raise ConfigError(document.problem(where, rule, value=base))
    try:
        below = _extended(path.parent / base, (*above, real))
    except ConfigError as error:
        if all(problem.line is None for problem in error.problems):  # it could not be read at all
            rule = f"{base}: {error.problems[0].rule}"
            raise ConfigError(document.problem(where, rule, hint=error.problems[0].hint)) from None
        raise
    return laid_over(below, document)


def _text(path: Path, source: str) -> str:
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_BYTES + 1)
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        reason = getattr(error, "strerror", None) or "not a path"
        files = path.parent.glob("*.y*ml") if isinstance(error, FileNotFoundError) else []
        hint = did_you_mean(path.name, [file.name for file in islice(files, 1000)])
        rule = f"cannot be read: {reason.lower()}"
        raise _refusal(source, None, rule, hint if hint.startswith("did") else "") from None
    if len(raw) > MAX_BYTES:
        raise _refusal(source, None, f"must not be larger than {MAX_BYTES // 1024} KiB")
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise _refusal(source, line, "must be UTF-8 text", "save the file as UTF-8") from None


def parse_yaml(text: str, source: str) -> Document:
    """Parse YAML text; ``source`` is what messages call it.

    Raises:
        ConfigError: With the first thing that is not strict YAML. Keys that are wrong are problems of the document.
    """
    text = text.removeprefix("\ufeff")
    if bad := _FORBIDDEN.search(text):
        rule = f"must be text without control characters, but found U+{ord(bad[0]):04X}"
        raise _refusal(source, text.count("\n", 0, bad.start()) + 1, rule)
    try:
        root = _Loader(text, source).get_single_node()
    except yaml.MarkedYAMLError as error:
        raise ConfigError(_syntax_problem(error, text, source)) from None
    except ConfigError:  # which is a ValueError
        raise
    except (yaml.YAMLError, ValueError, OverflowError):  # from chr() of "\UFFFFFFFF", int() of a long %YAML
        raise _refusal(source, None, "not valid YAML: an escape or a directive holds a number out of range") from None
    if root is None or (isinstance(root, yaml.ScalarNode) and root.style is None and not root.value):
        raise _refusal(source, None, "must not be empty")
    builder = _Builder(source)
    data = builder.build(root, ())
    return Document(data, source, builder.origins, tuple(builder.problems), tuple(builder.broken))


class _Builder:
    """Makes plain data of nodes, notes lines and collects problems."""

    def __init__(self, source: str) -> None:
        self.source = source
        self.origins: dict[KeyPath, Origin] = {}
        self.problems: list[Problem] = []
        self.broken: list[KeyPath] = []

    def build(self, node: yaml.Node, path: KeyPath) -> Any:
        self.origins.setdefault(path, (self.source, node.start_mark.line + 1))
        if isinstance(node, yaml.SequenceNode):
            return [self.build(item, (*path, index)) for index, item in enumerate(node.value)]
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, path)
        return self._scalar(node, path)

    def _mapping(self, node: yaml.MappingNode, path: KeyPath) -> dict[str, Any]:
        mapping: dict[str, Any] = {}
        for key, value in node.value:
            name = str(key.value) if isinstance(key, yaml.ScalarNode) else "?"
            child, line = (*path, name), key.start_mark.line + 1
            if name == "<<" and key.style is None:
                self._note(child, line, "merge keys ('<<') are not allowed", "write the values out")
            elif not isinstance(key, yaml.ScalarNode):
                self._note(path, line, "a key must be a string, but got a list or mapping")
            elif not isinstance(self._scalar(key, child), str):
                self._note(child, line, "a key must be a string", f"quote it: {shorten(name)}")
            elif name in mapping:
                self._note(child, line, f"duplicate key, first set on line {self.origins[child][1]}")
            else:
                self.origins[child] = self.source, line
                mapping[name] = self.build(value, child)
        return mapping

    def _scalar(self, node: Any, path: KeyPath) -> Any:
        text, kind = node.value, node.tag.rpartition(":")[2]
        if kind == "int" and len(text) > MAX_DIGITS:
            self._note(path, node.start_mark.line + 1, f"an integer must not have more than {MAX_DIGITS} digits")
            return 0
        if kind == "str" and path[::2] != ("plugins", "source") and _CREDENTIALS.search(text):
            hint = "put it in the environment, not in YAML"
            self._note(path, node.start_mark.line + 1, "a URL must not hold credentials", hint)
            return ""
        if kind == "null":
            return None
        if kind == "bool":
            return text.lower() == "true"
        if kind == "int":
            return int(text, 0) if text[:2] in ("0o", "0x") else int(text)
        return float(text.replace(".", "", text[-1:].isalpha())) if kind == "float" else text  # .inf, -.inf, .nan

    def _note(self, path: KeyPath, line: int, rule: str, hint: str = "") -> None:
        self.broken += [path, path[:-1]] if path[-1:] == ("<<",) else [path]
        self.problems.append(Problem(rule=rule, source=self.source, line=line, path=dotted(path), hint=hint))


def _syntax_problem(error: yaml.MarkedYAMLError, text: str, source: str) -> Problem:
    """Say in one line what PyYAML says in six."""
    mark = error.problem_mark or error.context_mark
    if error.context and ("quoted scalar" in error.context or "simple key" in error.context):
        mark = error.context_mark  # where it begins says more than where the file ends
    said = _SPACE.sub(" ", ", ".join(part for part in (error.context, error.problem) if part))
    rule, hint = f"not valid YAML{f' at column {mark.column + 1}' if mark else ''}: {said}", ""
    if "document" in said and "expected a single" in said:
        rule, hint = "only one document is allowed", "remove '---'"
    elif mark and "\t" in (_INDENT.match(text, text.rfind("\n", 0, mark.index) + 1) or "")[0]:
        hint = "indent with spaces, not tabs"
    return Problem(rule=rule, source=source, line=mark.line + 1 if mark else None, hint=hint)


def _refusal(source: str, line: int | None, rule: str, hint: str = "") -> ConfigError:
    return ConfigError(Problem(rule=rule, source=source, line=line, hint=hint))
