"""What the full cache of a family of views costs, against the teacher's work in one trial of 240 epochs.

    python bench/cache_build.py [--quick] [--teacher resnet20] [--per-class 2]

The family is CIFAR's: padded by 4, cut, flipped, 9 x 9 x 2 = 162 views. A small set of images has the same share: an
epoch asks for one view of each image, the cache holds 162, so 162 / 240 of the images. CPU seconds say whether writing
them down costs more than that: ``build`` is the cache's, ``live`` the teacher's forwards of whole epochs in batches of
64, as a trial without a cache runs them, each per image.

    forwards   images that the build ran the teacher on, over those of a trial of 240 epochs
    cost       the same in CPU seconds
"""

import argparse
import json
import statistics
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import torch
from cached import config_of

from icd.data import DATASETS, Request
from icd.data.split import Split
from icd.models import Network, build_model
from icd.teacher.cache import open_cache
from icd.teacher.cache_builder import build
from icd.teacher.cache_plan import plan_cache
from icd.training.loop import Execution, train_batches

EPOCHS = 240


def main() -> None:
    """Build a cache in slices, with live epochs between them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a smaller teacher")
    parser.add_argument("--teacher", default="resnet20")
    parser.add_argument("--per-class", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(1)
    arch = "resnet8" if options.quick else options.teacher
    split = DATASETS["digits100"].load(
        Request(root=None, path=None, val_fraction=0.5, split_seed=0), train_per_class=options.per_class
    )
    teacher = build_model(arch, num_classes=split.num_classes, stem="conv3x3", seed=1).eval().requires_grad_(False)
    teacher.to(memory_format=torch.channels_last)
    told = measure(arch, split, teacher)
    print("  ".join(f"{k} {v:.4g}" if isinstance(v, float) else f"{k} {v}" for k, v in told.items()), file=sys.stderr)
    json.dump(told, sys.stdout, indent=1)
    print()


def measure(arch: str, split: Split, teacher: Network) -> dict[str, float | int | str]:
    """Let slices of the build and live epochs take turns."""
    config = config_of(f"{arch}/resnet8x4", "iCD-KD")
    live: list[float] = []
    marks = [time.process_time()]
    built = 0.0

    def between(epoch: int, step: int, steps: int) -> None:
        nonlocal built
        built += time.process_time() - marks[-1]
        if step % 8 == 0:  # other weather, other speed: one live epoch for every 2048 images of the build
            began = time.process_time()
            for batch in train_batches(config, split, split.train, len(live) + 1, Execution()):
                teacher(batch.images_BCHW)
            live.append(time.process_time() - began)
        marks.append(time.process_time())

    with tempfile.TemporaryDirectory(prefix="icd-bench-") as folder:
        small = replace(config, training=replace(config.training, drop_last=False))
        cache = open_cache(plan_cache([small], split, "full", folder=Path(folder)), small, teacher, Path(folder))
        assert cache is not None
        computed = build(cache, split, Execution(progress=between))
        cache.close()
    images = len(split.train)
    shown = images - images % config.training.batch_size if config.training.drop_last else images
    live_s = statistics.median(live) / shown
    return {
        "teacher": arch,
        "images": images,
        "build_forwards": computed,
        "forwards": computed / (EPOCHS * images),
        "build_us_per_entry": 1e6 * built / computed,
        "live_us_per_image": 1e6 * live_s,
        "cost": built / (EPOCHS * images * live_s),
    }


if __name__ == "__main__":
    main()
