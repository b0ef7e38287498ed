"""The bench of a step on a GPU runs on a CPU too, small; without the libraries that a GPU machine may lack."""

import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
LACKING = ("pydantic", "yaml", "ray", "optuna", "mlflow", "sklearn")

RUN = f"""
import sys
for name in {LACKING!r}:
    sys.modules[name] = None
sys.path.insert(0, "bench")
sys.argv = ["gpu_step.py", "--device", "cpu", "--quick"]
import gpu_step
gpu_step.main()
"""


def test_all_parts_run_small() -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", RUN], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=240, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    told = json.loads(done.stdout)
    assert told["apart"]["weights"] == told["apart"]["losses"] == 0, "on a CPU both paths have the same bits"
    assert set(told["rates"]) == {"plain", "cache", "R 1", "R 2"}
    assert all(row["steps_per_s"] > 0 for row in told["rates"].values())
    assert told["rates"]["plain"]["trials_ratio"] == 1
    assert set(told["methods"]) == {
        f"{kind} {name}" for kind in ("plain", "device") for name in ("KD", "DKD", "iCD-KD")
    }
    assert "R 2" in done.stderr
