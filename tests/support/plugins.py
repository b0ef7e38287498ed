"""Plugins as a user writes them, for tests."""

from pathlib import Path
from typing import Any

import yaml

from tests.tiny import training

COSINE = '''\
"""A loss of the angle between two rows of logits."""
import torch.nn.functional as F
from dataclasses import dataclass
import icd
from icd.fields import Positive

@icd.register_base_loss("{name}")
@dataclass(frozen=True)
class Cosine:
    """One minus the cosine of two rows of logits."""

    weight: Positive = 1.0

    def __call__(self, student_NK, teacher_NK, labels_N):
        return {value}
'''
VALUE = "self.weight * (1 - F.cosine_similarity(student_NK, teacher_NK.detach()))"


def write_plugin(folder: Path, file: str = "my_loss.py", *, name: str = "cosine", value: str = VALUE) -> Path:
    """Write a plugin with a base loss."""
    path = folder / file
    path.write_text(COSINE.format(name=name, value=value))
    return path


def write_trial(folder: Path, plugins: list[str] | None, *, base_loss: str = "cosine", file: str = "t.yaml") -> Path:
    """Write a trial's file with that loss."""
    document = {
        "student": "resnet8",
        "teacher": "resnet14",
        "method": {"recipe": "KD", "base_loss": base_loss},
    }
    path = folder / file
    path.write_text(yaml.safe_dump({**({} if plugins is None else {"plugins": plugins}), **document}))
    return path


def sweep_document(images: Path, plugins: list[str], *, trials: int = 2) -> dict[str, Any]:
    """Give a sweep of one epoch over the weight of that loss."""
    return {
        "name": "mine",
        "plugins": plugins,
        "data": {"name": "npz", "path": str(images)},
        "teacher": {"arch": "resnet14", "training": training(1)},
        "student": "resnet8",
        "method": {"recipe": "KD", "base_loss": {"cosine": {"weight": {"low": 0.5, "high": 2}}}},
        "training": training(1),
        "search": {"sampler": "random", "budget": {"trials": trials}},
    }
