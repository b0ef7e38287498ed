"""Every second crash point (every fourth of a confirmation), one after the other; ``make kills`` takes every one."""

from pathlib import Path

import pytest

from tests.support.crash_points import check_points


@pytest.mark.timeout(900)
@pytest.mark.parametrize(("side", "step", "at_least"), [("driver", 2, 25), ("worker", 2, 10), ("confirm", 4, 10)])
def test_a_crash_at_any_durable_operation_changes_nothing(tmp_path: Path, side: str, step: int, at_least: int) -> None:
    check_points(tmp_path, side, step=step, at_least=at_least)
