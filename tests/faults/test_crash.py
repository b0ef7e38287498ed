"""Every second crash point, one after the other: ``harness.py`` in a process of its own, since it forks.

``make kills`` takes every one.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

HARNESS = Path(__file__).parents[1] / "crash" / "harness.py"


@pytest.mark.timeout(900)
@pytest.mark.parametrize(("side", "at_least"), [("driver", 25), ("worker", 10)])
def test_a_crash_at_any_durable_operation_changes_nothing(tmp_path: Path, side: str, at_least: int) -> None:
    words = [sys.executable, str(HARNESS), "points", str(tmp_path / "work"), "--side", side, "--step", "2"]
    done = subprocess.run(
        words, capture_output=True, text=True, check=False, env={**os.environ, "OMP_NUM_THREADS": "1"}
    )
    assert done.stdout, done.stderr[-2000:]
    report = json.loads(done.stdout)
    assert report["faults"] == []
    assert report["points"] > at_least
    assert done.returncode == 0
