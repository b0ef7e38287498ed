"""Sweeps that die at durable operations: ``harness.py`` in a process of its own, since it forks."""

import json
import os
import subprocess
import sys
from pathlib import Path

HARNESS = Path(__file__).parents[1] / "crash" / "harness.py"


def check_points(folder: Path, side: str, step: int, at_least: int) -> None:
    """Crash a driver or a worker at every ``step``-th operation; resumed, the sweep is the one nobody touched."""
    words = [sys.executable, str(HARNESS), "points", str(folder / "work"), "--side", side, "--step", str(step)]
    done = subprocess.run(
        words, capture_output=True, text=True, check=False, env={**os.environ, "OMP_NUM_THREADS": "1"}
    )
    assert done.stdout, done.stderr[-2000:]
    report = json.loads(done.stdout)
    assert report["faults"] == []
    assert report["points"] > at_least
    assert done.returncode == 0
