"""What all unit tests share."""

import pytest


@pytest.fixture(autouse=True)
def _seeds_from_101(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let plans take seeds 101, 102, ... instead of those that the sweep's digest draws."""
    monkeypatch.setattr("icd.results.plan.SEED_BLOCKS", 1)
