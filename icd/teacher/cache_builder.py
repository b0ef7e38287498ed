"""Fills a teacher cache ahead of the trials; what is there is left alone, so a build that was cut off goes on."""

import numpy as np

from icd.data.loader import batches
from icd.data.split import Split
from icd.errors import Interrupted
from icd.teacher.cache import TeacherCache
from icd.training.loop import Execution

_BATCH = 256


def build(cache: TeacherCache, split: Split, execution: Execution) -> int:
    """Compute every entry that is missing.

    Args:
        cache: Open, its teacher on the device.
        split: The images.
        execution: Device, progress (in batches, as epoch 0) and stop.

    Returns:
        How many images the teacher was run on.

    Raises:
        Interrupted: If ``execution.stop`` said so; the next build goes on.
    """
    spec, training = cache.spec, cache.config.training
    slots_S = np.flatnonzero(cache.missing(np.arange(spec.num_slots)))
    images_S = spec.image_of(slots_S)
    if spec.sequence is None:
        view_ids_S = slots_S % spec.num_views
    else:
        view_ids_S = np.concatenate(
            [np.empty(0, dtype=np.int64)]
            + [
                cache.view_ids(epoch, images_S[slots_S // spec.num_images == epoch - 1])
                for epoch in range(1, spec.sequence[1] + 1)
            ]
        )
    shown = batches(
        split.train.held(training.augmentation, execution.device, execution.num_workers),
        indices=images_S,
        view_ids=view_ids_S,
        views=training.augmentation,
        batch_size=_BATCH,
        mean=split.mean,
        std=split.std,
        device=execution.device,
        channels_last=True,
        num_workers=execution.num_workers,
    )
    before, steps = cache.computed, -(-len(slots_S) // _BATCH)
    for step, batch in enumerate(shown):
        cache.fill(batch, slots_S[step * _BATCH : (step + 1) * _BATCH])
        execution.progress(0, step + 1, steps)
        if step + 1 < steps and execution.stop():
            done = spec.num_slots - len(slots_S) + min(len(slots_S), (step + 1) * _BATCH)
            raise Interrupted(f"stopped with {done} of {spec.num_slots} entries; the same command goes on")
    return cache.computed - before
