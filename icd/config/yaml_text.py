"""What a piece of YAML text means: numbers by the YAML 1.2 core schema, secrets, dotted paths."""

import re
from itertools import pairwise
from typing import Final

from icd.errors import shorten

KeyPath = tuple[str | int, ...]

MAX_DIGITS = 100  # every integer we read also fits a float

_CONSTANTS: Final[dict[str, bool | float | None]] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL")),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
    **dict.fromkeys((".nan", ".NaN", ".NAN"), float("nan")),
    **{f"{sign}.{name}": float(f"{sign}inf") for sign in ("", "+", "-") for name in ("inf", "Inf", "INF")},
}
_INTEGER = re.compile(r"(?P<ten>[-+]?[0-9]+)|0o(?P<eight>[0-7]+)|0x(?P<sixteen>[0-9a-fA-F]+)")
_FLOAT = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?")
_BASES = {"ten": 10, "eight": 8, "sixteen": 16}

_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+")
_SECRET_WORDS = frozenset({"password", "passwords", "passwd", "passphrase", "secret", "secrets", "token", "apikey"})
_SECRET_PAIRS = frozenset({("api", "key"), ("access", "key"), ("private", "key")})
_USERINFO = re.compile(r"(https?)?://([^\s/?#@]*+)@", re.IGNORECASE)
_PLAIN_KEY = re.compile(r"[A-Za-z0-9_-]{1,64}")
_UNSTORABLE = re.compile("[\0\ud800-\udfff]")


def plain_scalar(text: str) -> str | int | float | bool | None:
    """Read an unquoted scalar by the YAML 1.2 core schema: ``1e-3`` is a float, ``NO`` a string.

    Raises:
        ValueError: If it is an integer of more than 100 digits.
    """
    if text in _CONSTANTS:
        return _CONSTANTS[text]
    if match := _INTEGER.fullmatch(text):
        if len(text) > MAX_DIGITS:
            raise ValueError(f"an integer must not have more than {MAX_DIGITS} digits")
        base = match.lastgroup or "ten"
        return int(match[base], _BASES[base])
    return float(text) if _FLOAT.fullmatch(text) else text


def is_storable(text: str) -> bool:
    """Whether a string can go to a file or a terminal: no NUL, no lone surrogate."""
    return _UNSTORABLE.search(text) is None


def is_secret_name(name: str) -> bool:
    """Whether a word of the name says secret: ``db_password``, ``accessToken``, but not ``max_tokens``."""
    words = [word.lower() for word in _WORD.findall(name)]
    return not _SECRET_WORDS.isdisjoint(words) or not _SECRET_PAIRS.isdisjoint(pairwise(words))


def has_credentials(text: str) -> bool:
    """Whether the text holds a URL with ``user:password@``, or with ``token@`` for http.

    Other schemes may have a plain name there, as in ``wasbs://container@account``.
    """
    return any(found[2] and (found[1] or ":" in found[2]) for found in _USERINFO.finditer(text))


def dotted(path: KeyPath) -> str:
    """Write a path as messages show it: ``base_loss.scales[1]``; odd keys are quoted, credentials hidden."""
    parts: list[str] = []
    for key in path:
        if isinstance(key, int):
            parts.append(f"[{key}]")
        else:
            parts.append("." * bool(parts) + _shown_key(key))
    return "".join(parts)


def _shown_key(key: str) -> str:
    if has_credentials(key):
        return "'***'"
    return key if _PLAIN_KEY.fullmatch(key) else shorten(key)
