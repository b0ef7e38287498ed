"""How checks are written and run."""

import io
import traceback
from collections.abc import Callable, Sequence
from contextlib import redirect_stdout
from typing import Any, TypeVar

from icd.errors import ConfigError

Subject = TypeVar("Subject")
Check = Callable[[Subject], None]

_AFTER: dict[Check[Any], Check[Any]] = {}


class ContractError(AssertionError):
    """A check's sentence on what is wrong."""


def require(holds: object, rule: str) -> None:
    """Raise the rule that is broken, unless it holds."""
    if not holds:
        raise ContractError(rule)


def after(first: Check[Any]) -> Callable[[Check[Subject]], Check[Subject]]:
    """Mark a check that says nothing new of a thing for which another check, ``first``, fails."""

    def marked(check: Check[Subject]) -> Check[Subject]:
        _AFTER[check] = first
        return check

    return marked


def failures(checks: Sequence[Check[Subject]], subject: Subject) -> list[str]:
    """Run checks on one thing and give a line for each that fails, with its name and what is wrong.

    What follows from a check that failed is left out.
    """
    lines, failed = list[str](), set[Check[Any]]()
    for check in checks:
        if _AFTER.get(check) in failed:
            failed.add(check)
            continue
        before = len(lines)
        name = str(getattr(check, "__name__", check)).replace("_", " ")
        said = io.StringIO()
        try:
            with redirect_stdout(said):
                check(subject)
        except (ConfigError, ContractError) as error:
            lines.append(f"{name}: {error}")
        except Exception as error:
            frame = traceback.extract_tb(error.__traceback__)[-1]
            where = f"{frame.filename.rpartition('/')[2]}:{frame.lineno}"
            lines.append(f"{name}: {type(error).__name__}: {' '.join(str(error).split())[:300]} ({where})")
        failed |= {check} if len(lines) > before else set()
        if said.getvalue() and not any("prints" in line for line in lines):
            shown = said.getvalue().strip().partition("\n")[0][:60]
            lines.append(f"{name}: prints {shown!r}, though a program may read stdout; use logging")
    return lines
