"""YAML text to parser events within fixed limits; nothing is constructed here.

PyYAML's pure-Python scanner and parser keep their own stacks, so depth costs no recursion. The composer
and the constructor, where alias and merge bombs go off, are never called.
"""

import re
from collections.abc import Iterator

import yaml

from icd.errors import ConfigError, Problem

MAX_BYTES = 256 * 1024
MAX_DEPTH = 32
MAX_NODES = 20_000
_DEPTH_RULE = f"must not be nested deeper than {MAX_DEPTH}"

# What YAML calls printable, less NEL, LS and PS: PyYAML ends a line there, an editor does not.
_FORBIDDEN = re.compile("[^\t\n\r\x20-\x7e\xa0-\u2027\u202a-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")

# (part of PyYAML's problem, our sentence, whether the line where the construct began says more). PyYAML's
# own text is never passed on: it quotes the file, and what it quotes may be a secret.
_SENTENCES = (
    ("mapping values are not allowed", "a ':' is not expected here; quote text that contains ': '", False),
    ("could not find expected ':'", "a line must be 'key: value' or '- item'", True),
    ("'\\t' that cannot start", "a tab must not indent a line", False),
    ("cannot start any token", "a value must not start with this character; quote it", False),
    (
        "expected <block end>",
        "the indentation must match the lines above, and nothing may follow a closing quote",
        False,
    ),
    ("expected ',' or ']'", "every '[' must have its ']', with ',' between the items", False),
    ("expected ',' or '}'", "every '{' must have its '}', with ',' between the items", False),
    ("found unexpected", "every quote must be closed", True),
    ("unknown escape", "a backslash in double quotes must start a known escape; use single quotes", False),
    ("hexadecimal", "a backslash escape must have all its hexadecimal digits; use single quotes", False),
    ("node content", "a value must stand here, or a bracket is not closed", False),
    ("sequence entries", "a list must start on its own line", False),
    ("tag handle", "tags ('!') are not allowed", False),
    ("expected URI", "tags ('!') are not allowed", False),
    ("document start", "nothing may follow the end of the document", False),
    ("alphabetic or numeric", "a value must not start with '*' or '&'; quote it", False),
)


def refuse(rule: str, source: str, line: int | None = None, hint: str = "") -> ConfigError:
    """Give the error for one broken rule."""
    return ConfigError(Problem(rule=rule, source=source, line=line, hint=hint))


def decode(raw: bytes, source: str) -> str:
    """Decode a file's bytes, which must be UTF-8 (a byte order mark is tolerated) of at most 256 KiB."""
    check_size(len(raw), source)
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise refuse("must be UTF-8 text", source, line, "save the file as UTF-8") from None


def check_size(size: int, source: str) -> None:
    """Refuse more than 256 KiB."""
    if size > MAX_BYTES:
        raise refuse(f"must not be larger than {MAX_BYTES // 1024} KiB", source)


class _TooDeepError(Exception):
    """Brackets nested too deep, seen by the scanner."""


class _Loader(yaml.SafeLoader):
    """Counts brackets while scanning: before its first event the scanner looks 1024 of them ahead, slowly."""

    def fetch_flow_collection_start(self, TokenClass: type) -> None:
        if self.flow_level >= MAX_DEPTH:
            raise _TooDeepError
        super().fetch_flow_collection_start(TokenClass)


def guarded_events(text: str, source: str) -> list[yaml.Event]:
    """Parse text into events, refusing what could be large, deep, shared, typed or not YAML at all.

    Raises:
        ConfigError: With the first violation; reading stops there.
    """
    check_size(len(text), source)
    check_size(len(text.encode("utf-8", "surrogatepass")), source)
    text = text.removeprefix("\ufeff")
    if bad := _FORBIDDEN.search(text):
        rule = f"must be text without control characters, but found U+{ord(bad[0]):04X}"
        raise refuse(rule, source, text.count("\n", 0, bad.start()) + 1)
    loader = _Loader(text)
    try:
        return list(_limited(loader, source))
    except yaml.MarkedYAMLError as error:
        raise ConfigError(_syntax_problem(error, text, source)) from None
    except _TooDeepError:
        raise refuse(_DEPTH_RULE, source, loader.line + 1) from None
    except ConfigError:
        raise
    except (yaml.YAMLError, ValueError, OverflowError):  # from chr() of "\UFFFFFFFF", int() of a long %YAML
        rule = "not valid YAML: an escape or a directive holds a number out of range"
        raise refuse(rule, source, loader.line + 1) from None


def line_of(event: yaml.Event) -> int:
    """Give the line where an event starts, counted from 1."""
    return event.start_mark.line + 1 if event.start_mark else 1


def _limited(loader: _Loader, source: str) -> Iterator[yaml.Event]:
    depth = nodes = documents = 0
    while loader.check_event():
        event = loader.get_event()  # type: ignore[no-untyped-call]
        line = line_of(event)
        if isinstance(event, yaml.DocumentStartEvent):
            documents += 1
            if documents > 1:
                raise refuse("only one document is allowed", source, line, "remove '---'")
        elif isinstance(event, yaml.NodeEvent):
            nodes += 1
            depth += isinstance(event, yaml.CollectionStartEvent)
            _check_node(event, source, line)
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        if depth > MAX_DEPTH:
            raise refuse(_DEPTH_RULE, source, line)
        if nodes > MAX_NODES:
            raise refuse(f"must not hold more than {MAX_NODES} keys and values", source, line)
        yield event


def _check_node(event: yaml.NodeEvent, source: str, line: int) -> None:
    if event.anchor is not None:
        hint = "write the value out, or quote text that starts with '&' or '*'"
        raise refuse("anchors ('&') and aliases ('*') are not allowed", source, line, hint)
    if getattr(event, "tag", None) is not None:
        raise refuse("tags ('!') are not allowed", source, line, "quote text that starts with '!'")


def _syntax_problem(error: yaml.MarkedYAMLError, text: str, source: str) -> Problem:
    """Say in one sentence what PyYAML says in six lines."""
    said = error.problem or ""
    default = ("", "this cannot be read; is a quote, a bracket or a space missing?", False)
    _, sentence, from_start = next((row for row in _SENTENCES if row[0] in said), default)
    mark = (error.context_mark if from_start else None) or error.problem_mark or error.context_mark
    if mark is None:
        return Problem(rule=f"not valid YAML: {sentence}", source=source)
    start = text.rfind("\n", 0, mark.index) + 1
    indent = re.compile(r"[ \t]*").match(text, start)
    hint = "indent with spaces, not tabs" if indent and "\t" in indent[0] else ""
    rule = f"not valid YAML at column {mark.column + 1}: {sentence}"
    return Problem(rule=rule, source=source, line=mark.line + 1, hint=hint)
