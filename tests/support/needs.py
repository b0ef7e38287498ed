"""What some tests need beyond Python packages; where it is absent they are skipped, or fail if it was required."""

import os
from pathlib import Path

import pytest

REFERENCE = (Path(__file__).parents[2] / os.environ.get("ICD_REFERENCE", "../shared")).resolve()
KNOWN = ("postgres", "chromium", "pictures", "mounts")


def required() -> set[str]:
    """What ``ICD_REQUIRE`` names, separated by commas: tests that need it fail instead of being skipped."""
    names = {name.strip() for name in os.environ.get("ICD_REQUIRE", "").split(",")} - {""}
    if unknown := names - set(KNOWN):
        raise pytest.UsageError(f"ICD_REQUIRE: must name some of {', '.join(KNOWN)}, but got {', '.join(unknown)}")
    return names


def need(name: str, there: bool, hint: str) -> None:
    """Skip the test where something is not there, or fail it if ``ICD_REQUIRE`` names it."""
    assert name in KNOWN
    if there:
        return
    if name in required():
        pytest.fail(f"{hint} (ICD_REQUIRE names {name})", pytrace=False)
    pytest.skip(hint)
