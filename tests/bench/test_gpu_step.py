"""The bench of a step on a GPU runs on a CPU too, small; without the libraries that a GPU machine may lack."""

import importlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

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
    equal = told["equality"]
    assert equal["weights"] == equal["losses"] == 0, "on a CPU both paths have the same bits"
    assert equal["beside_another_equal"]
    assert set(told["rates"]) == {"plain x1", "live x1", "cache x1", "cache x2", "graph x1", "graph x2"}
    assert all(row["steps_per_s"] > 0 for row in told["rates"].values())
    assert told["rates"]["plain x1"]["trials_ratio"] == 1
    assert set(told["methods"]) == {f"{kind} {name}" for kind in ("plain", "graph") for name in ("KD", "DKD", "iCD-KD")}
    assert told["verdict"] == "Supports engine: auto = eager, because no step was recorded here."
    assert done.stderr.rstrip().endswith(told["verdict"])
    assert "| graph x2 | " in done.stderr


SAID: dict[str, Any] = {
    "equality": {"recorded": True, "weights": 1e-6, "beside_another_equal": True},
    "rates": {"cache x1": {"steps_per_s": 100.0}, "graph x1": {"steps_per_s": 250.0}},
}


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({}, "auto = graph: equal weights, and 2.50x to 2.50x"),
        ({"equality": {**SAID["equality"], "weights": 0.1}}, "auto = eager, because recorded or shared"),
        ({"equality": {**SAID["equality"], "weights": float("nan")}}, "auto = eager, because recorded or shared"),
        ({"equality": {**SAID["equality"], "beside_another_equal": False}}, "auto = eager, because recorded or shared"),
        (
            {"rates": {**SAID["rates"], "cache x1": {"steps_per_s": 300.0}}},
            "auto = eager, because recorded steps are slower",
        ),
    ],
)
def test_the_last_sentence(monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any], sentence: str) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "bench"))
    gpu_step = importlib.import_module("gpu_step")
    assert sentence in gpu_step.verdict({**SAID, **changes})
