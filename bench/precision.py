"""Does bf16 train students as good as fp32 does? The same seeds with both, so that only rounding differs.

    python bench/precision.py --data FILE.npz [--student resnet8] [--teacher resnet20] [--epochs 8] [--seeds 5]

A teacher is trained first, in fp32. Each seed then trains iCD-KD with both precisions: same split, initial weights,
images and views in the same order, the teacher's answers from one cache. Arms take turns.

    top1      accuracy on the validation part after the last epoch, for each seed
    mean_gap  bf16 less fp32, in points, with its 95 % interval (t of the paired differences)
    cpu_s     CPU seconds of all trainings of an arm, evaluation and checkpoints included
"""

import argparse
import json
import statistics
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import torch
from scipy import stats

from icd.config.read_trial import read_trial
from icd.config.trial import TrialConfig
from icd.config.yaml import parse_yaml
from icd.teacher.store import prepare
from icd.training.loop import EpochMetrics, Execution
from icd.worker.single_trial import run_trial
from icd.worker.trial_inputs import TrialFolders, read_data

Precision = Literal["fp32", "bf16"]
ARMS: tuple[Precision, ...] = ("fp32", "bf16")


def main() -> None:
    """Run, print each seed on stderr and everything on stdout."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="an NPZ file")
    parser.add_argument("--student", default="resnet8")
    parser.add_argument("--teacher", default="resnet20")
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="one epoch, two seeds")
    options = parser.parse_args()
    torch.set_num_threads(1)
    epochs, seeds = (1, 2) if options.quick else (options.epochs, options.seeds)
    config = config_of(options.data.name, options.student, options.teacher, epochs)
    with tempfile.TemporaryDirectory(prefix="icd-bench-") as folder:
        places = TrialFolders(root=Path(folder), data_root=options.data.resolve().parent)
        began = time.process_time()
        ready = prepare(config, read_data(config, places)[1], places.teachers, Execution())
        told: dict[str, Any] = {"epochs": epochs, "teacher": ready.summary if ready else "", "torch": torch.__version__}
        told["teacher_cpu_s"] = time.process_time() - began
        print(told, file=sys.stderr, flush=True)
        told |= run_seeds(config, places, seeds)
    json.dump(told, sys.stdout, indent=1)
    print()


def config_of(path: str, student: str, teacher: str, epochs: int) -> TrialConfig:
    """Give the trial: a short cosine schedule for both networks."""
    training = {"preset": "cifar100", "schedule": "cosine", "measure_every": 0, "nesterov": True}
    content = {
        "data": {"name": "npz", "path": path, "val_fraction": 0.2},
        "teacher": {"arch": teacher, "training": {**training, "epochs": epochs}},
        "student": student,
        "method": "iCD-KD",
        "training": {**training, "epochs": epochs, "report_every": epochs},
    }
    return read_trial(parse_yaml(json.dumps(content), "precision"))


def run_seeds(config: TrialConfig, places: TrialFolders, seeds: int) -> dict[str, Any]:
    """Train every seed with both precisions; accuracies, their paired difference, and what they cost."""
    top1: dict[str, list[float]] = {arm: [] for arm in ARMS}
    cpu_s = dict.fromkeys(ARMS, 0.0)
    for seed in range(seeds):
        for arm in ARMS if seed % 2 == 0 else ARMS[::-1]:  # the first of a seed fills its cache
            began = time.process_time()
            top1[arm].append(top1_of(config, places, seed, arm))
            cpu_s[arm] += time.process_time() - began
        print(f"seed {seed}", {arm: (top1[arm][-1], round(cpu_s[arm])) for arm in ARMS}, file=sys.stderr, flush=True)
    gaps = [bf16 - fp32 for fp32, bf16 in zip(top1["fp32"], top1["bf16"], strict=True)]
    error = statistics.stdev(gaps) / len(gaps) ** 0.5
    reach = float(stats.t.ppf(0.975, len(gaps) - 1)) * error
    mean = statistics.mean(gaps)
    return {"top1": top1, "mean_gap": mean, "interval": [mean - reach, mean + reach], "cpu_s": cpu_s}


def top1_of(config: TrialConfig, places: TrialFolders, seed: int, precision: Precision) -> float:
    """Train once."""
    told: list[EpochMetrics] = []
    own = replace(config, seed=seed, training=replace(config.training, precision=precision))
    run_trial(own, f"{precision}-{seed}", places, Execution(report=told.append), teacher_cache="stream")
    return told[-1].values["val/top1"]


if __name__ == "__main__":
    main()
