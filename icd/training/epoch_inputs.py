"""What the epochs of a trial are made of: its images in their order and views, who answers for the teacher, its steps.

Shape key:
    N: images shown in an epoch
"""

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from numpy.typing import ArrayLike
from torch import Tensor

from icd.config.trial import TrialConfig
from icd.data import views
from icd.data.images import ImageSet
from icd.data.loader import Batch, Normaliser, Numbers, batches, order
from icd.data.split import Split
from icd.errors import ConfigError, Problem
from icd.methods import NetworkOutputs, Step
from icd.models import Network
from icd.training.cached_teacher import CachedTeacher
from icd.training.draws import seed_step
from icd.training.optimizer import learning_rates
from icd.training.step import TrainStep, aside, live_outputs

if TYPE_CHECKING:
    from icd.training.loop import Execution


@dataclass(frozen=True, slots=True)
class EpochInputs:
    """Everything that steps ask for; order and views are pure functions of the trial's seed and the epoch.

    Attributes:
        config: The trial.
        split: Its data set.
        images: Training images; those in memory lie on the device.
        execution: Where it runs, and what stands for the teacher.
        teacher: The frozen teacher, for methods that need one; without a cache it runs in every step.
    """

    config: TrialConfig
    split: Split
    images: ImageSet
    execution: "Execution"
    teacher: Network | None = None

    @property
    def cache(self) -> CachedTeacher | None:
        """What stands for the teacher, if there is one."""
        return None if self.teacher is None else self.execution.cache

    def live_outputs(self, batch: Batch) -> NetworkOutputs | None:
        """Run the teacher on a batch, if there is one."""
        return None if self.teacher is None else live_outputs(self.teacher, batch)

    @property
    def num_steps(self) -> int:
        """Steps of an epoch."""
        training = self.config.training
        if training.drop_last and len(self.images) < training.batch_size:
            raise ConfigError(
                f"training.batch_size <= number of training images ({len(self.images)}) must hold with drop_last, "
                f"but got {training.batch_size}"
            )
        return math.ceil(self.num_shown / training.batch_size)

    def check_batch_of_one(self, student: Network) -> None:
        """Refuse batches of one image if the student cannot be trained on one: a batch norm over a map of 1 x 1."""
        size = self.config.training.batch_size
        if size > 1 and self.num_shown % size != 1:
            return
        images_BCHW = next(self.show([0], None, 1)).images_BCHW
        try:
            with torch.no_grad():
                aside(student.train(), images_BCHW)
        except ValueError as error:
            rule = f"must not leave a batch of one of {self.num_shown} images: {self.config.student.arch} says {error}"
            hint = "take another size" + (", or training.drop_last: true" if size > 1 else "")
            path = "training.batch_size"
            raise ConfigError(Problem(path=path, rule=rule, value=size, hint=hint)) from error

    @property
    def num_shown(self) -> int:
        """N."""
        training = self.config.training
        return len(self.images) - (len(self.images) % training.batch_size if training.drop_last else 0)

    def normaliser(self) -> Normaliser:
        """Give what turns pixels into what the networks see, where they are."""
        split, last = self.split, self.config.training.uses_channels_last
        return Normaliser(split.mean, split.std, self.execution.device, last)

    def order(self, epoch: int) -> tuple[Numbers, Numbers]:
        """Give which images an epoch shows, in order, and their views, [N]."""
        seed, num_views = self.config.seed, self.config.training.augmentation.num_views
        indices_N = order(seed, epoch, len(self.images))[: self.num_shown]
        return indices_N, views.draw(seed, epoch, indices_N, num_views)

    def show(self, indices_N: ArrayLike, view_ids_N: ArrayLike | None, batch_size: int) -> Iterator[Batch]:
        """Show images in an order, in numbered views or, without those, in the test-time view."""
        return batches(
            self.images,
            indices=indices_N,
            view_ids=view_ids_N,
            views=self.config.training.augmentation,
            batch_size=batch_size,
            normaliser=self.normaliser(),
            num_workers=self.execution.num_workers,
        )


class EagerEpochs:
    """Runs the steps of a trial's epochs as the host hands it batch after batch."""

    def __init__(self, train_step: TrainStep, inputs: EpochInputs) -> None:
        self.train_step, self.inputs = train_step, inputs
        self.data_seconds = 0.0  # how long steps of the present epoch waited for images
        self.name = "eager"  # what ran the steps, for the trial's result

    def steps(self, epoch: int) -> Iterator[Tensor]:
        """Do the steps of an epoch one by one, yielding each one's terms [L]."""
        self.data_seconds = 0.0
        inputs, training, cache = self.inputs, self.inputs.config.training, self.inputs.cache
        shown = inputs.show(*inputs.order(epoch), training.batch_size)
        for step, lr in enumerate(learning_rates(training, epoch, inputs.num_steps)):
            began = time.perf_counter()
            batch = next(shown)
            self.data_seconds += time.perf_counter() - began
            moment = Step(batch.labels_B, batch.indices_B, epoch, step)
            seed_step(inputs.execution.device, inputs.config.seed, epoch, step)
            teacher = cache.outputs(batch, epoch) if cache is not None else inputs.live_outputs(batch)
            yield self.train_step(batch, teacher, moment, lr)
