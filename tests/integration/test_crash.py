"""Every eighth crash point, one after the other; ``make faults`` takes every second."""

from pathlib import Path

import pytest

from tests.support.crash_points import check_points


@pytest.mark.timeout(900)
@pytest.mark.parametrize(("side", "at_least"), [("driver", 6), ("worker", 2), ("confirm", 5)])
def test_a_crash_at_any_durable_operation_changes_nothing(tmp_path: Path, side: str, at_least: int) -> None:
    check_points(tmp_path, side, step=8, at_least=at_least)
