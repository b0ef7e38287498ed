"""Losses of every step of 12 seeded trainings, to the last bit: a change that shall change nothing is held against it.

    python bench/curves.py > before.json        # on the commit before
    python bench/curves.py --check before.json  # exit 1 and the names where a bit differs

Each base loss, each family of scales, SP, CRD and cross entropy alone; 50 images of noise, 3 epochs, the teacher live.
Only runs of one kind of processor, one number of threads and one torch can be compared.
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import torch

from icd.config.read_trial import read_trial
from icd.config.yaml import parse_yaml
from icd.models import build_model
from icd.training.checkpoints import weights_digest
from icd.training.loop import Execution, train
from tests.tiny import images, views

ICD = {"recipe": "iCD-KD", "allow_repeated_cells": True}
METHODS: dict[str, Any] = {
    "ce": {"name": "cross_entropy"},
    **{name: name for name in ("KD", "DKD", "NKD", "LDRLD", "SD-KD", "iCD-DKD", "iCD-NKD")},
    **{f"scales {scales}": {**ICD, "scales": scales} for scales in ([1, 2], [1, 2, 3])},
    "SP": "SP",
    "CRD": {"recipe": "CRD", "num_negatives": 20},
}


def curve(method: Any) -> dict[str, Any]:
    """Train; losses of all steps in hexadecimal digits, and the digest of the weights."""
    training = {"epochs": 3, "batch_size": 12, "augmentation": views(), "measure_every": 0, "report_every": 3}
    content = {
        "data": {"name": "npz", "path": "tiny.npz"},
        "student": "resnet8",
        "method": method,
        "training": training,
    }
    if method != METHODS["ce"]:
        its_own = {"epochs": 1, "augmentation": views()}
        content["teacher"] = {"arch": "resnet14", "weights": "train", "training": its_own}
    teacher = build_model("resnet14", num_classes=10, stem="conv3x3", seed=7) if "teacher" in content else None
    done = train(read_trial(parse_yaml(json.dumps(content), "curves")), images(), teacher, Execution())
    assert done.fingerprint is not None
    losses = [loss.hex() for loss in done.fingerprint.losses]
    return {"losses": losses, "weights": weights_digest(done.network.state_dict())}


def main() -> int:
    """Print the curves, or compare them with a file's."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    found = {name: curve(method) for name, method in METHODS.items()}
    if options.check is None:
        print(json.dumps(found, indent=1))
        return 0
    before = json.loads(options.check.read_text())
    changed = [name for name in METHODS if before.get(name) != found[name]]
    print(f"{len(found) - len(changed)} of {len(found)} curves have the same bits", *changed, sep="\n", file=sys.stderr)
    return 1 if changed else 0


if __name__ == "__main__":
    sys.exit(main())
