"""An epoch of photographs from files: decoded by the training's own thread, by decoders, or once into memory.

    python bench/files.py [--quick] [--rounds 5] [--images 300] [--side 224] [--batch 64]

A folder like CUB-200 with synthetic JPEGs, resized to 256, cut to 224, flipped and normalised, as a trial shows them.
Arms in turn: images a second by the clock, and microseconds of processor that each image costs the training's own
thread, which other work on the machine does not change. Older commits have no arm ``memory``.
"""

import argparse
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from icd.config.read_trial import read_trial
from icd.config.yaml import parse_yaml
from icd.data import DATASETS, Request
from icd.training.loop import Execution, train_batches

CLASSES = 3


def write_folder(folder: Path, count: int, side: int) -> None:
    """Write a training and a test image of each number, smooth enough to compress as photographs do."""
    rows, names = [], [f"{label + 1:03d}.bird" for label in range(CLASSES)]
    for number in range(count + CLASSES):
        name = f"{names[number % CLASSES]}/{number}.jpg"
        (folder / "images" / name).parent.mkdir(parents=True, exist_ok=True)
        noise = np.random.default_rng(number).integers(0, 256, (side // 8, side // 8, 3), dtype=np.uint8)
        Image.fromarray(noise).resize((side, side), Image.Resampling.BICUBIC).save(folder / "images" / name, quality=90)
        rows.append((name, number % CLASSES + 1, int(number < count)))
    texts = {
        "classes.txt": [f"{label + 1} {name}" for label, name in enumerate(names)],
        "images.txt": [f"{number} {name}" for number, (name, _, _) in enumerate(rows, start=1)],
        "image_class_labels.txt": [f"{number} {label}" for number, (_, label, _) in enumerate(rows, start=1)],
        "train_test_split.txt": [f"{number} {train}" for number, (_, _, train) in enumerate(rows, start=1)],
    }
    for name, lines in texts.items():
        (folder / name).write_text("\n".join(lines) + "\n")


def main() -> None:
    """Run, and print images a second."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="60 images, two rounds")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--images", type=int, default=300)
    parser.add_argument("--side", type=int, default=224)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(1)
    document = {
        "data": "cub200",
        "student": "resnet8",
        "method": "cross_entropy",
        "training": {"batch_size": options.batch, "drop_last": False},
    }
    config = read_trial(parse_yaml(json.dumps(document), "bench"))
    with tempfile.TemporaryDirectory() as folder:
        write_folder(Path(folder), 60 if options.quick else options.images, options.side)
        split = DATASETS["cub200"].load(Request(root=Path(folder), path=None, val_fraction=0.1, split_seed=0))
        told = measure(config, split, 2 if options.quick else options.rounds, options.workers)
    print("  ".join(f"{name} {value:.4g}" for name, value in told.items()), file=sys.stderr)
    json.dump(told, sys.stdout, indent=1)
    print()


def measure(config: Any, split: Any, rounds: int, workers: int) -> dict[str, float]:
    """Give both for each arm, and what decoding into memory costs once."""
    arms = {"one": (split.train, Execution(num_workers=0)), "workers": (split.train, Execution(num_workers=workers))}
    told = {}
    if hasattr(split.train, "held"):
        began = time.perf_counter()
        held = split.train.held(config.training.augmentation, torch.device("cpu"), workers)
        told["decode_once_s"] = time.perf_counter() - began
        arms["memory"] = (held, Execution())
    speeds: dict[str, list[float]] = {name: [] for name in arms}
    own: dict[str, list[float]] = {name: [] for name in arms}
    for _ in range(rounds):
        for name, (images, execution) in arms.items():
            began, began_own = time.perf_counter(), time.thread_time()
            for _batch in train_batches(config, split, images, 1, execution):
                pass
            speeds[name].append(len(split.train) / (time.perf_counter() - began))
            own[name].append(1e6 * (time.thread_time() - began_own) / len(split.train))
    told |= {f"{name}_images_per_second": statistics.median(values) for name, values in speeds.items()}
    return told | {f"{name}_own_us_per_image": statistics.median(values) for name, values in own.items()}


if __name__ == "__main__":
    main()
