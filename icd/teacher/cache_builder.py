"""Fills a teacher cache ahead of the trials; what is there is left alone, so a build that was cut off goes on."""

from collections.abc import Iterator

import numpy as np

from icd.config.trial import settled
from icd.data.loader import Batch, Numbers
from icd.data.split import Split
from icd.errors import Interrupted
from icd.teacher.cache import TeacherCache
from icd.training.epoch_inputs import EpochInputs
from icd.training.kernels import kernels
from icd.training.loop import Execution, held

_LOOKED_THROUGH = 4096  # entries at once, for what they lack


def build(cache: TeacherCache, split: Split, execution: Execution) -> int:
    """Compute every entry that is missing; returns how many images the teacher was run on.

    Progress is told in entries, as epoch 0, of those that are there as of those that are computed.

    Raises:
        Interrupted: If ``execution.stop`` said so; the next build goes on.
    """
    spec, config = cache.spec, settled(cache.config, ("fp32", True))  # as the teacher runs, whatever its students do
    inputs = EpochInputs(config, split, held(split.train, config, execution), execution)
    before, done = cache.computed, 0

    def passed(now: int) -> None:
        nonlocal done
        done = now
        execution.progress(0, done, spec.num_slots)
        if done < spec.num_slots and execution.stop():
            raise Interrupted(f"stopped with {done} of {spec.num_slots} entries; the same command goes on")

    def show(indices_N: Numbers, view_ids_N: Numbers, batch_size: int) -> Iterator[Batch]:
        for batch in inputs.show(indices_N, view_ids_N, batch_size):
            yield batch
            passed(done + len(batch.labels_B))

    with kernels(execution.device, "fp32"):  # those of a trial
        for first in range(0, spec.num_slots, _LOOKED_THROUGH):
            slots_S = np.arange(first, min(first + _LOOKED_THROUGH, spec.num_slots))
            images_S = spec.image_of(slots_S)
            if spec.sequence is None:
                view_ids_S = slots_S % spec.num_views
            else:
                view_ids_S = cache.view_ids(1 + slots_S // spec.num_images, images_S)
            cache.compute(slots_S, images_S, view_ids_S, show)
            passed(first + len(slots_S))
    return cache.computed - before
