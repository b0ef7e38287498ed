"""A trained student from its trial's folder, and images to try it on.

Shape key:
    B: batch    C: channels    H, W: height, width
"""

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from icd.config.trial import TrialConfig
from icd.errors import DataError, SetupError, StateError
from icd.models import Network, build_model
from icd.teacher.store import fitted, head_name
from icd.training.loop import Execution, evaluation_batches
from icd.worker.trial_inputs import TrialFolders, read_data

logger = logging.getLogger(__name__)

_IMAGES = 64
_SEED = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """Images to try a network on, and how the data set prepares them.

    Attributes:
        images_BCHW: Normalised, float32.
        source: What they are, for people.
        mean: Of each channel, pixels scaled to 0..1, as is ``std``; None where the data set is not at hand.
        class_names: In the order of the logits; None where the data set is not at hand.
    """

    images_BCHW: Tensor
    source: str
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    class_names: tuple[str, ...] | None = None

    @property
    def facts(self) -> dict[str, str]:
        """What a program's user needs, as JSON by name; empty where the data set is not at hand."""
        known = {"mean": self.mean, "std": self.std, "classes": self.class_names}
        return {name: json.dumps(value) for name, value in known.items() if value is not None}


def student_of(config: TrialConfig, weights: Mapping[str, Tensor], source: str) -> Network:
    """Build a configuration's student with trained weights, on the CPU and in ``eval`` mode.

    Raises:
        TeacherError: If they are of another architecture.
    """
    student = config.student
    head = head_name(build_model(student.arch, num_classes=2, stem=student.stem))
    num_classes = len(weights[f"{head}.weight"]) if f"{head}.weight" in weights else 2
    return fitted(weights, student.arch, student.stem, num_classes, source=source).eval().requires_grad_(False)


def sample_of(config: TrialConfig, root: Path, data_root: Path | None) -> Sample:
    """Give up to 64 validation images in their test-time view; seeded noise where the data set is not at hand."""
    try:
        _, split = read_data(config, TrialFolders(root=root, data_root=data_root))
    except (DataError, SetupError, StateError) as error:
        logger.warning("the student is compared on noise, because its data set cannot be read: %s", error)
        return Sample(images_BCHW=_noise(config), source=f"{_IMAGES} images of seeded noise (no data set at hand)")
    shown = split.val.subset(range(min(len(split.val), _IMAGES)))
    batch = next(evaluation_batches(config, split, shown, Execution()))
    return Sample(
        images_BCHW=batch.images_BCHW.contiguous(),
        source=f"{len(shown)} validation images of {split.name}",
        mean=tuple(split.mean),
        std=tuple(split.std),
        class_names=split.class_names,
    )


def _noise(config: TrialConfig) -> Tensor:
    size = config.training.augmentation.size
    return torch.randn(_IMAGES, 3, size, size, generator=torch.Generator().manual_seed(_SEED))
