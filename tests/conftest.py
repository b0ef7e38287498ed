"""What every test leaves behind as it found it."""

import logging
import os
from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True)
def logging_as_it_was() -> Iterator[None]:
    """The command sets logging up for its own stderr, which is another test's a moment later."""
    root, ours = logging.getLogger(), logging.getLogger("icd")
    handlers, levels = root.handlers[:], (root.level, ours.level)
    yield
    root.handlers[:] = handlers
    root.setLevel(levels[0])
    ours.setLevel(levels[1])


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Leave tests of whole clusters to ``make cluster``; what takes long comes first, or one worker ends alone."""
    if not os.environ.get("ICD_CLUSTER"):
        reason = pytest.mark.skip(reason="minutes of clusters: make cluster")
        for item in items:
            if item.get_closest_marker("cluster"):
                item.add_marker(reason)
    items.sort(key=lambda item: item.get_closest_marker("slow") is None)
