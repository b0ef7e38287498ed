"""Random text and mutated documents never raise anything but ConfigError (needs hypothesis)."""

from hypothesis import given, settings
from hypothesis import strategies as st

from icd.config.yaml import apply_overrides, parse_yaml
from icd.errors import ConfigError

SWEEP = "study: x\nloss:\n  kd: {temperature: 4, weight: 1e-1}\nscales:\n  - 1\n  - 'a b'\n  - [1, \"\\x41\"]\n"
STABLE = settings(derandomize=True, deadline=None, max_examples=300, database=None)

PIECE = st.text("\n\t :-?[]{},#&*!|>'\"%@`~\\.=<0123aAxUuefn\0\x1b\u2028\ud800\ufeff\u00e9", max_size=12)


def check_text(text: str) -> None:
    messages: list[str] = []
    try:
        parse_yaml(text, "x.yaml")
    except ConfigError as error:
        messages = [str(problem) for problem in error.problems]
    assert all(message.isprintable() for message in messages)


@STABLE
@given(st.text(max_size=80))
def test_random_text(text: str) -> None:
    check_text(text)


@STABLE
@given(PIECE)
def test_random_syntax(text: str) -> None:
    check_text(text)


@STABLE
@given(st.lists(st.tuples(st.integers(0, len(SWEEP)), st.integers(0, 8), PIECE), min_size=1, max_size=4))
def test_mutated_documents(edits: list[tuple[int, int, str]]) -> None:
    text = SWEEP
    for start, length, piece in edits:
        text = text[:start] + piece + text[start + length :]
    check_text(text)


@STABLE
@given(st.text(max_size=30) | PIECE, st.text(max_size=30) | PIECE)
def test_random_overrides(key: str, value: str) -> None:
    messages: list[str] = []
    try:
        apply_overrides(parse_yaml(SWEEP, "x.yaml"), [f"{key}={value}", key])
    except ConfigError as error:
        messages = [str(problem) for problem in error.problems]
    assert all(message.isprintable() for message in messages)
