"""What can go wrong, said once: every error a user may see, with its exit code.

An error says what must hold, where, the value that broke it and, where we know, what to do. The command turns an
``IcdError`` into one line on stderr, ``icd: error[CODE] ...``, and exits with its code.

Exit codes: 0 done; 2 usage or configuration; 3 environment or data; 4 training, or too many trials or runs, failed;
5 state conflict, or results are missing; 6 integrity; 70 bug; 129/130/143 interrupted.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from typing import ClassVar

_CLOSE = 0.6  # likeness of a name and the one that is meant


class Absent:
    """Stands where no value is told; a class, so that it stays the same in another process."""


class IcdError(Exception):
    """Base of all errors meant for users."""

    code: ClassVar[str] = "BUG"
    exit_code: ClassVar[int] = 70


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """One thing wrong in a configuration.

    ``str()`` gives ``{source}:{line}: {path}: {rule}, but got {value!r}; {hint}`` with absent parts left out.
    """

    rule: str
    source: str = ""
    line: int | None = None
    path: str = ""
    value: object = Absent
    hint: str = ""

    def __str__(self) -> str:
        where = self.source if self.line is None else f"{self.source}:{self.line}"
        text = ": ".join(part for part in (where, self.path, self.rule) if part)
        if self.value is not Absent:
            text += f", but got {shorten(self.value)}"
        return f"{text}; {self.hint}" if self.hint else text


class ConfigError(IcdError, ValueError):
    """A configuration that cannot be run; carries every problem found, not only the first."""

    code = "CONFIG"
    exit_code = 2

    def __init__(self, problems: Problem | str | Iterable[Problem]) -> None:
        if isinstance(problems, str):
            problems = [Problem(rule=problems)]
        elif isinstance(problems, Problem):
            problems = [problems]
        self.problems: tuple[Problem, ...] = tuple(problems)
        super().__init__("\n".join(str(problem) for problem in self.problems))


class UsageError(IcdError):
    """A command line that does not make sense."""

    code = "USAGE"
    exit_code = 2


class SetupError(IcdError):
    """The machine lacks something: a package, a device, write permission, disk space."""

    code = "SETUP"
    exit_code = 3


class DataError(IcdError):
    """A data set is missing, corrupt or not what it says it is; ``path`` names the value of a file that led there."""

    code = "DATA"
    exit_code = 3

    def __init__(self, text: str, path: str = "") -> None:
        super().__init__(text)
        self.path = path


class NonFiniteLossError(IcdError, ArithmeticError):
    """A loss term became NaN or infinite; training stops there, nothing is patched over."""

    code = "NONFINITE"
    exit_code = 4

    def __init__(self, term: str, epoch: int, step: int, value: float) -> None:
        self.term, self.epoch, self.step, self.value = term, epoch, step, value
        super().__init__(
            f"loss term {term!r} must be finite, but got {value!r} at epoch {epoch}, step {step}; "
            "lower training.lr or the weight of that term"
        )

    def __reduce__(self) -> tuple[type, tuple[object, ...]]:
        # Exceptions cross process borders by pickle, which would call the class with one argument.
        return type(self), (self.term, self.epoch, self.step, self.value)


class TrialsFailedError(IcdError):
    """More trials or runs failed than is allowed."""

    code = "FAILED"
    exit_code = 4


class StateError(IcdError):
    """Something is in the way or missing: another driver, another configuration, no such sweep or result."""

    code = "STATE"
    exit_code = 5


class CheckpointError(IcdError):
    """A checkpoint that is missing, altered or from another configuration."""

    code = "CHECKPOINT"
    exit_code = 6


class TeacherError(IcdError):
    """Teacher weights that are unsafe, altered, of another network or of another class count."""

    code = "TEACHER"
    exit_code = 6


class TestSetClosedError(IcdError):
    """Something tried to read test data without opening the test set."""

    __test__ = False  # the name starts with Test, but it is no test case
    code = "TESTSET"
    exit_code = 6


class Interrupted(IcdError):  # noqa: N818 - not a fault: the user asked for it
    """Training stopped on a signal after a durable checkpoint; the command exits with 128 + the signal's number."""

    code = "INTERRUPTED"
    exit_code = 130  # where no signal came: 'icd stop' before the first trial


def require(holds: bool, rule: str, value: object) -> None:
    """Raise a ``ValueError`` that states the rule and the value which broke it."""
    if not holds:
        raise ValueError(f"`{rule}` must hold, but got {value!r}")


def did_you_mean(name: object, allowed: Sequence[str]) -> str:
    """Say which allowed name is meant, or list them all: ``did you mean 'x'?`` / ``allowed: a, b``."""
    text, known = str(name).lower(), {other.lower(): other for other in reversed(allowed)}
    alike = {other: SequenceMatcher(None, other, text).ratio() for other in known}
    most, numbers = max(alike.values(), default=0.0), re.findall(r"\d+", text)

    def distance(other: str) -> list[int]:
        """Of names that are as alike, the one with the nearest number is meant."""
        return [abs(int(a) - int(b)) for a, b in zip(numbers, re.findall(r"\d+", other), strict=False)]

    if most < _CLOSE:
        return f"allowed: {', '.join(sorted(allowed))}"
    return f"did you mean {known[min((other for other in known if alike[other] == most), key=distance)]!r}?"


def is_close(name: object, other: str) -> bool:
    """Whether a name may be a misspelt other one."""
    return SequenceMatcher(None, other, str(name)).ratio() >= _CLOSE


def shorten(value: object, limit: int = 80) -> str:
    """Give the repr of a value on one line, cut in the middle where it is longer than ``limit``."""
    text = repr(value).replace("\n", "\\n")
    return text if len(text) <= limit else f"{text[: limit - 30]}...{text[-24:]}"
