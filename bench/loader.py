"""An epoch of augmented images: batches cut by view number, against a torchvision loader.

    python bench/loader.py [--quick] [--rounds 7]

Images of digits100, 32 x 32, padded by 4, cut, flipped, normalised, batches of 64, one thread, no workers.
"""

import argparse
import json
import statistics
import sys
from typing import Any

import torch
from cached import config_of
from paired import ratio, take_turns
from plain import BATCH, Images

from icd.data import DATASETS, Request
from icd.data.images import ArrayImages
from icd.training.loop import Execution, train_batches


def main() -> None:
    """Run, and print microseconds an image."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="few images, three rounds")
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    torch.set_num_threads(1)
    per_class = 20 if options.quick else 100
    split = DATASETS["digits100"].load(
        Request(root=None, path=None, val_fraction=0.1, split_seed=0), train_per_class=per_class
    )
    assert isinstance(split.train, ArrayImages)
    config = config_of("resnet32x4/resnet8x4", "KD")
    loader: Any = torch.utils.data.DataLoader(
        Images(split.train.images_NCHW, split.train.labels_N), batch_size=BATCH, shuffle=True, num_workers=0
    )
    arms = {
        "torchvision": lambda: [None for _ in loader],
        "ours": lambda: [None for _ in train_batches(config, split, split.train, 1, Execution())],
    }
    taken = take_turns(arms, 3 if options.quick else options.rounds)
    told: dict[str, float] = {
        f"{name}_us_per_image": 1e6 * statistics.median(values) / len(split.train) for name, values in taken.items()
    }
    told["ratio"] = ratio(taken["torchvision"], taken["ours"])
    print("  ".join(f"{name} {value:.3g}" for name, value in told.items()), file=sys.stderr)
    json.dump(told, sys.stdout, indent=1)
    print()


if __name__ == "__main__":
    main()
