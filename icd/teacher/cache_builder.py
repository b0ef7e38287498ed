"""Fills a teacher cache ahead of the trials; what is there is left alone, so a build that was cut off goes on."""

import numpy as np

from icd.config.trial import settled
from icd.data.split import Split
from icd.errors import Interrupted
from icd.teacher.cache import TeacherCache
from icd.training.epoch_inputs import EpochInputs
from icd.training.kernels import kernels
from icd.training.loop import Execution, held

_BATCH = 256  # images handed to the cache at once; how many its teacher sees at once is ``_CHUNK`` of cache.py


def build(cache: TeacherCache, split: Split, execution: Execution) -> int:
    """Compute every entry that is missing; returns how many images the teacher was run on.

    Progress is told in batches, as epoch 0.

    Raises:
        Interrupted: If ``execution.stop`` said so; the next build goes on.
    """
    spec, config = cache.spec, settled(cache.config, ("fp32", True))  # as the teacher runs, whatever its students do
    slots_S = np.flatnonzero(cache.missing(np.arange(spec.num_slots)))
    images_S = spec.image_of(slots_S)
    if spec.sequence is None:
        view_ids_S = slots_S % spec.num_views
    else:
        epochs = range(spec.sequence[1])
        parts = [cache.view_ids(epoch + 1, images_S[slots_S // spec.num_images == epoch]) for epoch in epochs]
        view_ids_S = np.concatenate(parts)
    inputs = EpochInputs(config, split, held(split.train, config, execution), execution)
    shown = inputs.show(images_S, view_ids_S, _BATCH)
    before, steps = cache.computed, -(-len(slots_S) // _BATCH)
    with kernels(execution.device, "fp32"):  # those of a trial
        for step, batch in enumerate(shown):
            cache.fill(batch, slots_S[step * _BATCH : (step + 1) * _BATCH])
            execution.progress(0, step + 1, steps)
            if step + 1 < steps and execution.stop():
                done = spec.num_slots - len(slots_S) + min(len(slots_S), (step + 1) * _BATCH)
                raise Interrupted(f"stopped with {done} of {spec.num_slots} entries; the same command goes on")
    return cache.computed - before
