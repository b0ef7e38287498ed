"""Our arm of the same trial as plain.py: the training loop of ``icd``, its teacher a cache, in a process of its own.

    python bench/cached.py --pair resnet32x4/mobilenetv2 --method iCD-KD --teacher-cache FOLDER [--live]

The first run with a folder fills the cache and says what that cost; later ones read it.
"""

import argparse
import json
import resource
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from icd.config.read_trial import read_trial
from icd.config.trial import TrialConfig
from icd.config.yaml import parse_yaml
from icd.data import DATASETS, Request
from icd.models import build_model
from icd.teacher.cache import open_cache
from icd.teacher.cache_plan import plan_cache
from icd.training.loop import Execution, train

EPOCHS = 2  # of 101 steps


def config_of(pair: str, method: Any) -> TrialConfig:
    """Give the configuration that plain.py follows."""
    arch_teacher, arch_student = pair.split("/")
    training = {
        "preset": "cifar100",
        "epochs": EPOCHS,
        "milestones": [],
        "lr": 0.05,
        "drop_last": True,
        "report_every": EPOCHS,
    }
    content = {
        "data": {"name": "digits100", "train_per_class": 72, "val_fraction": 0.1},
        "teacher": {
            "arch": arch_teacher,
            "weights": "train",
            "training": {"preset": "cifar100", "epochs": 1, "milestones": []},
        },
        "student": {"arch": arch_student, "stem": "conv3x3"},
        "method": method,
        "training": training,
    }
    config = read_trial(parse_yaml(json.dumps(content), "bench"))
    if config.teacher is None:
        raise ValueError("the pair has a teacher")
    teacher = replace(config.teacher, digest=arch_teacher.ljust(64, "0"), stem="conv3x3")
    return replace(config, data=replace(config.data, digest="d" * 64), teacher=teacher)


def main() -> None:
    """Train, and say what it cost."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pair", default="resnet32x4/mobilenetv2")
    parser.add_argument("--method", default="iCD-KD")
    parser.add_argument("--scales", default="1,2,4")
    parser.add_argument("--teacher-cache", type=Path, required=True)
    parser.add_argument("--live", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(1)
    method: dict[str, Any] = {"recipe": options.method, "allow_repeated_cells": True}
    if "-" in options.method:
        method["scales"] = [int(scale) for scale in options.scales.split(",")]
    config = config_of(options.pair, method)
    split = DATASETS["digits100"].load(
        Request(root=None, path=None, val_fraction=0.1, split_seed=0), train_per_class=72
    )
    teacher = build_model(options.pair.split("/")[0], num_classes=split.num_classes, stem="conv3x3", seed=1).eval()
    teacher.to(memory_format=torch.channels_last).requires_grad_(False)
    plan = plan_cache([config], split, "off" if options.live else "stream", folder=options.teacher_cache)
    cache = open_cache(plan, config, teacher, options.teacher_cache)
    began, steps = time.process_time(), 0

    def progress(epoch: int, step: int, of: int) -> None:
        nonlocal steps
        steps += 1

    trained = train(config, split, teacher, Execution(cache=cache, progress=progress))
    steps_s = time.process_time() - began
    used = resource.getrusage(resource.RUSAGE_SELF)
    computed = cache.computed if cache is not None else None
    told = {"cpu_s": used.ru_utime + used.ru_stime, "steps_s": steps_s, "steps": steps, "computed": computed}
    print(json.dumps({**told, "loss": trained.metrics["train/loss"]}))


if __name__ == "__main__":
    main()
