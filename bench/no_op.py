"""An attempt that trains nothing; apart from ``synthetic``, so that a worker imports neither torch nor Optuna."""

import json
import math
import time
from collections.abc import Callable, Mapping
from typing import Any

from icd.search.core.attempts import Attempt, AttemptResult, EpochReport

RESULT = {"minutes": 0.01, "parameters": 1000, "student_sha256": "0" * 64, "epochs": 10}


def metrics_of(config: Mapping[str, Any], epoch: int) -> dict[str, float]:
    """Make up what an epoch says: nine numbers, as training does."""
    weight = math.log(float(config["method"].get("cluster_weight", 1.0)))
    top1 = 60 + 3 * epoch - (weight - 2) ** 2 + (hash((epoch, weight)) % 1000) / 1000
    return {
        "train/loss": 3 - 0.1 * epoch,
        "train/ce": 1.0,
        "train/base": 1.0,
        "train/cluster": 1.0,
        "val/loss": 2 - 0.1 * epoch,
        "val/top1": top1,
        "val/top5": min(100.0, top1 + 20),
        "lr": 0.1,
        "seconds/epoch": 1.0,
        "time": time.time(),
    }


def no_op(task: Attempt, send: Callable[[EpochReport], bool]) -> AttemptResult:
    """Do an attempt as a worker would, without training: rows in the trial's folder, every epoch said."""
    epochs = int(task.runs[""]["training"]["epochs"])
    go = True
    with (task.folder / "metrics.jsonl").open("a") as file:
        for epoch in range(1, epochs + 1):
            metrics = metrics_of(task.runs[""], epoch)
            file.write(json.dumps({"epoch": epoch, **metrics}) + "\n")
            file.flush()
            go = send(EpochReport(number=task.number, attempt=task.attempt, epoch=epoch, metrics=metrics))
            if not go and epoch < epochs:
                return AttemptResult(number=task.number, attempt=task.attempt, kind="stopped", reason="stopped")
    return AttemptResult(number=task.number, attempt=task.attempt, kind="complete", device="none", result=RESULT)
