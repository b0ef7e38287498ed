"""Sweeps that a test drives itself have workers which need not import torch; those of other drivers do it."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.studies import Study, usual
from tests.support.forked_workers import launch_forked


@pytest.fixture(scope="session", autouse=True)
def forked_workers() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("icd.search.session.launch_python", launch_forked)
        yield


@pytest.fixture
def root(icd_root: Path) -> Path:
    """Call that root by the name that these tests use."""
    return icd_root


@pytest.fixture
def study(root: Path) -> Study:
    """A sweep with trials of every kind, in that root."""
    return usual(root)
