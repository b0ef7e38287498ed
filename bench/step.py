"""A whole training step from the teacher's cache: iCD with every base loss and scale set, over plain KD.

    python bench/step.py [--quick] [--rounds 31] [--students mobilenetv2,resnet8x4,vgg8]

Batch 64, 32 x 32, K = 100, one thread: images cut and normalised, entries read from the cache's files, student forward
and backward, losses, update. Arms take turns step by step, each with a student of its own.

    ms       median CPU milliseconds of a step
    over_kd  median over the rounds of the step's time over that of KD in the same round
"""

import argparse
import json
import statistics
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from cached import config_of
from paired import ratio, take_turns

from icd.config.trial import TrialConfig
from icd.data import DATASETS, Request
from icd.data.loader import Batch
from icd.data.split import Split
from icd.losses import BaseLoss, DecoupledKD, KnowledgeDistillation, LocalRelations, NormalizedKD
from icd.methods import CellDistillation, Step
from icd.models import build_model
from icd.teacher.cache import TeacherCache, open_cache
from icd.teacher.cache_builder import build
from icd.teacher.cache_plan import plan_cache
from icd.training.loop import Execution, train_batches
from icd.training.step import TrainStep

STUDENTS = ("mobilenetv2", "resnet8x4", "vgg8")
BASES: dict[str, BaseLoss] = {
    "KD": KnowledgeDistillation(),
    "DKD": DecoupledKD(beta=2.0),
    "NKD": NormalizedKD(temperature=4.0, gamma=2.0),
    "LDRLD": LocalRelations(),
}
SCALES = ((1, 2), (1, 4), (1, 2, 4))


def main() -> None:
    """Run, print a table on stderr and the figures on stdout."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one student, one base loss, 9 rounds")
    parser.add_argument("--rounds", type=int, default=31)
    parser.add_argument("--students", default=",".join(STUDENTS))
    options = parser.parse_args()
    torch.set_num_threads(1)
    bases = ["KD"] if options.quick else list(BASES)
    rows = []
    for student in STUDENTS[:1] if options.quick else options.students.split(","):
        with tempfile.TemporaryDirectory(prefix="icd-bench-") as folder:
            taken = take_turns(arms_of(student, bases, Path(folder)), 9 if options.quick else options.rounds)
        for name, values in taken.items():
            row = {"student": student, "method": name, "ms": 1e3 * statistics.median(values)}
            rows.append(row | {"over_kd": ratio(values, taken["KD"])})
            print(
                f"{student}  {name:16}  {row['ms']:.1f} ms  {rows[-1]['over_kd']:.3f} of KD",
                file=sys.stderr,
                flush=True,
            )
    json.dump(rows, sys.stdout, indent=1)
    print()


def arms_of(student: str, bases: list[str], folder: Path) -> dict[str, Callable[[], object]]:
    """Give a step of each method, all with one full cache."""
    methods = {"KD": CellDistillation(base_loss=BASES["KD"], scales=(1,), ce_weight=0.1, base_weight=0.9)}
    for base in bases:
        for scales in SCALES:
            method = CellDistillation(
                base_loss=BASES[base], scales=scales, cluster_weight=8.0, allow_repeated_cells=True
            )
            methods[f"iCD-{base} {scales}"] = method
    config = config_of(f"resnet20/{student}", {"recipe": "iCD-KD", "allow_repeated_cells": True})
    configs = {name: replace(config, method=method) for name, method in methods.items()}
    split = DATASETS["digits100"].load(Request(root=None, path=None, val_fraction=0.5, split_seed=0), train_per_class=4)
    teacher = (
        build_model("resnet20", num_classes=split.num_classes, stem="conv3x3", seed=1).eval().requires_grad_(False)
    )
    teacher.to(memory_format=torch.channels_last)
    plan = plan_cache(list(configs.values()), split, "stream", folder=folder)
    cache = open_cache(plan, config, teacher, folder)
    assert cache is not None
    build(cache, split, Execution())
    return {name: arm_of(own, split, open_cache(plan, own, teacher, folder)) for name, own in configs.items()}


def arm_of(config: TrialConfig, split: Split, cache: TeacherCache | None) -> Callable[[], object]:
    """Give a function that does one step of a trial."""
    assert cache is not None
    network = build_model(config.student.arch, num_classes=split.num_classes, stem=config.student.stem, seed=0).train()
    network.to(memory_format=torch.channels_last)
    step, shown = TrainStep(network, config.method.build(None), config.training), endless(config, split)

    def arm() -> Any:
        epoch, batch = next(shown)
        return step(batch, cache.outputs(batch, epoch), Step(batch.labels_B, batch.indices_B, epoch, 0), 0.01)

    return arm


def endless(config: TrialConfig, split: Split) -> Iterator[tuple[int, Batch]]:
    """Show the images of the trial's epochs again and again."""
    while True:
        for epoch in range(1, config.training.epochs + 1):
            for batch in train_batches(config, split, split.train, epoch, Execution()):
                yield epoch, batch


if __name__ == "__main__":
    main()
