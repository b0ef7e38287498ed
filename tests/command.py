"""Runs the command inside the test's process."""

from collections.abc import Callable
from typing import NamedTuple


class Said(NamedTuple):
    code: int
    out: str
    err: str


Command = Callable[..., Said]


def one_line(said: Said, code: int, kind: str) -> str:
    errors = [line for line in said.err.splitlines() if line.startswith("icd: error[")]
    assert (said.code, len(errors)) == (code, 1), said.err
    assert errors[0].startswith(f"icd: error[{kind}] ")
    assert "Traceback" not in said.err
    return errors[0]
