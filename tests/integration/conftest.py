"""Sweeps that a test drives itself have workers which need not import torch; those of other drivers do it."""

from collections.abc import Iterator

import pytest

from tests.support.forked_workers import launch_forked


@pytest.fixture(scope="session", autouse=True)
def forked_workers() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("icd.search.session.launch_python", launch_forked)
        yield
