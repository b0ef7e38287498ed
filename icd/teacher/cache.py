"""The teacher of a trial as a cache: how a batch is answered from its blocks, and what is missing computed.

Shape key:
    B: batch    K: classes    M: stored cells    P: cells of all scales
"""

from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from icd.config.trial import TrialConfig
from icd.data import views
from icd.data.loader import Batch, Numbers
from icd.models import Network
from icd.teacher import device_cache
from icd.teacher.cache_block import Block, BlockSpec, block_folder, rows_of
from icd.teacher.cache_plan import CachePlan
from icd.teacher.cached_outputs import CachedOutputs
from icd.text import size_text
from icd.training.cached_teacher import Show
from icd.training.kernels import products

_CHUNK = {"cpu": 16, "cuda": 256}  # images of one forward
_FILLED_AT_ONCE = 256  # images that are shown at once for what is missing


class TeacherCache:
    """Answers a trial's batches; what is missing is computed once, by whoever comes first.

    Attributes:
        computed: Images that the teacher was run on, by this object.
    """

    def __init__(self, folder: Path, plan: CachePlan, config: TrialConfig, teacher: Network) -> None:
        self.config, self.teacher, self.computed = config, teacher, 0
        # Always in order of their digests, whoever opens them: two processes must not wait for each other's claims.
        # All lie alike: one configuration's views and sequence.
        specs = sorted(plan.specs, key=BlockSpec.digest)
        with ExitStack() as opened:  # where one cannot be opened, those before it are closed
            self.blocks = [opened.enter_context(closing(Block(block_folder(folder, spec), spec))) for spec in specs]
            self._opened = opened.pop_all()

    def close(self) -> None:
        """Let go of the files."""
        self._opened.close()

    @property
    def chunk(self) -> int:
        """How many images the teacher is run on at once, where it is now."""
        return _CHUNK[next(self.teacher.parameters()).device.type]

    @property
    def spec(self) -> BlockSpec:
        """Any block's: they differ in what an entry holds, not in where it lies."""
        return self.blocks[0].spec

    def outputs(self, batch: Batch, epoch: int) -> CachedOutputs:
        """Give the teacher's outputs for a training batch."""
        indices_B = batch.indices_B.cpu().numpy()
        slots_B = self.spec.slots(epoch, indices_B, self.view_ids(epoch, indices_B))
        self.fill(batch, slots_B)
        device = batch.labels_B.device
        read = ((block.spec, *block.read(slots_B)) for block in self.blocks)
        return CachedOutputs([(spec, rows.float().to(device), verdicts.to(device)) for spec, rows, verdicts in read])

    def outputs_aside(self, batch: Batch) -> CachedOutputs:
        """Say of any images what a cache of them would hold; nothing is read, stored or counted."""
        device, parts = batch.labels_B.device, []
        made = [entries for _, entries in self._entries(batch, np.arange(len(batch.labels_B)))]
        for block, entries in zip(self.blocks, zip(*made, strict=True), strict=True):
            rows_BRK, verdicts_BV = (torch.cat(tensors).to(device) for tensors in zip(*entries, strict=True))
            parts.append((block.spec, rows_BRK.to(torch.float16).float(), verdicts_BV))
        return CachedOutputs(parts)

    def on_device(self, device: torch.device, num_shown: int) -> device_cache.DeviceCache:
        """Give the same answers from a device's memory, for epochs of so many images."""
        return device_cache.DeviceCache(self, device, num_shown)

    def view_ids(self, epochs: ArrayLike, indices_B: Numbers) -> Numbers:
        """Which views the trial's images show in an epoch, or each in its own."""
        return views.draw(self.config.seed, epochs, indices_B, self.config.training.augmentation.num_views)

    def missing(self, slots_B: Numbers) -> NDArray[np.bool_]:
        """Say which slots lack an entry in some block."""
        return np.asarray(np.logical_or.reduce([block.missing(slots_B) for block in self.blocks]))

    def compute(self, slots_N: Numbers, indices_N: Numbers, view_ids_N: Numbers, show: Show) -> None:
        """Compute what slots of some images and views lack."""
        lacking = np.flatnonzero(self.missing(slots_N))
        for part, batch in enumerate(show(indices_N[lacking], view_ids_N[lacking], _FILLED_AT_ONCE)):
            self.fill(batch, slots_N[lacking[part * _FILLED_AT_ONCE : (part + 1) * _FILLED_AT_ONCE]])

    def fill(self, batch: Batch, slots_B: Numbers) -> None:
        """Compute what a batch lacks, unless another trial is at it or was faster."""
        rows_B = np.flatnonzero(self.missing(slots_B))
        if not len(rows_B):
            return
        with ExitStack() as claims:
            for block in self.blocks:
                claims.enter_context(block.claim(slots_B[rows_B]))
            rows_B = rows_B[self.missing(slots_B[rows_B])]
            for rows_C, made in self._entries(batch, rows_B):
                for block, (rows_CRK, verdicts_CV) in zip(self.blocks, made, strict=True):
                    block.write(slots_B[rows_C], rows_CRK, verdicts_CV)
        self.computed += len(rows_B)

    def _entries(self, batch: Batch, rows_B: Numbers) -> Iterator[tuple[Numbers, list[tuple[Tensor, Tensor]]]]:
        """Run the teacher on rows of a batch, a few at a time; gives those, and rows and verdicts for each block.

        Always on as many images at once, whatever the batch: kernels are chosen by shape, and an entry must have the
        same bits whoever computes it, with whatever neighbours.
        """
        device, size = batch.images_BCHW.device, self.chunk
        for rows_C in (rows_B[first : first + size] for first in range(0, len(rows_B), size)):
            padded_C = np.concatenate([rows_C, np.repeat(rows_C[:1], size - len(rows_C))])
            on_device_C, num = torch.from_numpy(padded_C).to(device), len(rows_C)
            images_CCHW = batch.images_BCHW[on_device_C].contiguous(memory_format=torch.channels_last)
            with torch.no_grad(), torch.autocast(device.type, enabled=False), products(device, tf32=False):
                output, labels_C = self.teacher(images_CCHW), batch.labels_B[on_device_C]
                made = [rows_of(output, self.teacher.head, block.spec, labels_C) for block in self.blocks]
            yield rows_C, [(rows_CRK[:num], verdicts_CV[:num]) for rows_CRK, verdicts_CV in made]


def open_cache(plan: CachePlan, config: TrialConfig, teacher: Network | None, folder: Path) -> TeacherCache | None:
    """Open the cache that was planned; None for ``off``, and no mirror of earlier trials' takes memory then."""
    if teacher is None or plan.mode == "off":
        device_cache.mirrors.clear()
        return None
    return TeacherCache(folder, plan, config, teacher)


def summary(plan: CachePlan, cache: TeacherCache | None = None) -> str:
    """Say in a line what was chosen, and how much of it is there."""
    if plan.mode == "off":
        return f"teacher runs live: {plan.reason}"
    there = ""
    if cache is not None:
        filled = sum(block.filled() for block in cache.blocks) / sum(block.spec.num_slots for block in cache.blocks)
        there = f", {filled:.0%} of it there"
    return f"teacher cache: {plan.mode} of {size_text(plan.num_bytes)}{there} ({plan.reason})"
