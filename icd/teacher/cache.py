"""The teacher of a trial as a cache: which blocks it needs, whether they fit, and how a batch is answered from them.

    full     every view of every image: for families with few views (CIFAR: 162), whatever seeds and epochs come
    stream   the one sequence of views that all trials with the same seed and epochs see
    off      the teacher runs live, in every step

Shape key:
    B: batch    K: classes    M: stored cells    P: cells of all scales
"""

import json
import shutil
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from icd.config.trial import TrialConfig, plain_data
from icd.data import views
from icd.data.loader import Batch
from icd.data.split import Split
from icd.errors import ConfigError, SetupError
from icd.methods import CellDistillation
from icd.models import MODELS, Network, feature_size
from icd.plugins import Plugin
from icd.teacher import device_cache
from icd.teacher.cache_block import HEADER, Block, BlockSpec, block_folder, rows_of
from icd.teacher.cached_outputs import CachedOutputs, grid_key
from icd.text import size_text
from icd.training.kernels import products

CacheMode = Literal["auto", "full", "stream", "off"]
BUDGET_GB = 64.0
_RESERVE = 10**9  # bytes of the disk that are left for everything else
_WORTH_IT = 0.2  # a cache for a single trial must save at least this share of the teacher's forwards

_CHUNK = {"cpu": 16, "cuda": 256}  # images of one forward


@dataclass(frozen=True, slots=True, kw_only=True)
class CachePlan:
    """What was chosen, and why.

    Attributes:
        mode: ``full``, ``stream`` or ``off``.
        specs: The blocks; none for ``off``.
        reason: For people.
    """

    mode: Literal["full", "stream", "off"]
    specs: tuple[BlockSpec, ...]
    reason: str

    @property
    def num_bytes(self) -> int:
        """Disk when full."""
        return sum(spec.num_bytes for spec in self.specs)


def plan_cache(
    configs: Sequence[TrialConfig],
    split: Split,
    mode: CacheMode = "auto",
    *,
    folder: Path,
    budget_gb: float = BUDGET_GB,
    alone: bool = False,
    chosen: bool = False,
) -> CachePlan:
    """Choose one that was begun, else by size: the smaller of full and stream that fits the budget and the disk.

    Trials may lie between those given, and shall need no other blocks: ``auto`` takes ``full`` for one family of views
    alone, and ``stream`` for one number of epochs besides.

    Args:
        configs: Trials of one teacher that will use it, their digests known; those that need features run live.
        split: Their images.
        mode: What the user asked for.
        folder: Of all teacher caches.
        budget_gb: What a cache may take.
        alone: Whether this is one trial and no other will use it.
        chosen: Whether ``mode`` was chosen before. Then room is not asked for; a full disk ends the trial that writes.

    Raises:
        ConfigError: If the mode asked for cannot hold what the method needs.
        SetupError: If it does not fit.
    """
    suited = [config for config in configs if suits(config)]
    if not suited:
        reason = "there is no teacher" if configs[0].teacher is None else "features are compared, a cache holds logits"
        if mode in ("full", "stream"):
            raise ConfigError(f"--teacher-cache {mode}: {reason}, but got {configs[0].method.title}; take auto or off")
        return CachePlan(mode="off", specs=(), reason=reason)
    if mode == "off":
        return CachePlan(mode="off", specs=(), reason="as asked")
    full, stream = (_plan(suited, split, kind) for kind in ("full", "stream"))
    # A stream's sequence ends with its number of epochs; its seeds are all known.
    bounded = [plan for plan in (full, stream) if len({(s.views, (s.sequence or (0,))[-1]) for s in plan.specs}) == 1]
    sizes = f"full {size_text(full.num_bytes)}, stream {size_text(stream.num_bytes)}"
    if mode != "auto":
        asked = full if mode == "full" else stream
        room = _room(folder, asked.specs, budget_gb)
        if asked.num_bytes > room and not chosen:
            needed, got = size_text(asked.num_bytes), size_text(room)
            raise SetupError(f"--teacher-cache {mode} needs {needed}, but got {got} of budget and disk; {sizes}")
        more = "" if asked in bounded else ", and more for trials with other views or epochs"
        return replace(asked, reason=f"{'as before' if chosen else 'as asked'}; {sizes}{more}")
    fitting = [plan for plan in bounded if plan.num_bytes <= _room(folder, plan.specs, budget_gb)]
    for plan in fitting:  # what was begun, or built ahead, is used whatever a new one would be
        if all((block_folder(folder, spec) / HEADER).exists() for spec in plan.specs):
            return replace(plan, reason=f"it was begun before; {sizes}")
    if alone and (saved := _saved_share(suited[0])) < _WORTH_IT:
        return CachePlan(mode="off", specs=(), reason=f"one trial alone meets only {saved:.0%} of its views again")
    # One trial alone sees each step of its sequence once; trials of other seeds see other sequences.
    trials = Counter(config.seed for config in suited)
    shared = not alone and (len(trials) == 1 or min(trials.values()) > 1)
    for plan in sorted(fitting, key=lambda plan: plan.num_bytes):
        if plan.mode == "full" or shared:
            return replace(plan, reason=sizes)
    too_little = f"{size_text(_room(folder, (), budget_gb))} are too little"
    reason = too_little if bounded else "views differ, and each family would take a cache of its own"
    return CachePlan(mode="off", specs=(), reason=f"{reason}; {sizes}")


def suits(config: TrialConfig) -> bool:
    """Whether a cache can stand for the teacher: the method asks for logits only."""
    return config.teacher is not None and isinstance(config.method, CellDistillation)


def _plan(configs: Sequence[TrialConfig], split: Split, kind: Literal["full", "stream"]) -> CachePlan:
    specs = {spec.digest(): spec for config in configs for spec in _specs(config, split, kind)}
    return CachePlan(mode=kind, specs=tuple(specs.values()), reason="")


def _specs(config: TrialConfig, split: Split, kind: str) -> tuple[BlockSpec, ...]:
    method, teacher, training = config.method, config.teacher, config.training
    if not isinstance(method, CellDistillation) or teacher is None or teacher.digest is None:
        raise ValueError("a cache needs a method on logits and a teacher with its digest")
    map_side = feature_size(teacher.arch, teacher.stem, training.augmentation.size)[1]
    more = [] if config.data.train_on == "train" else [config.data.train_on]  # what is measured on is not in the cache
    pixels = json.dumps([config.data.digest, list(split.mean), list(split.std), *more])
    shown, plugin = plain_data(training.augmentation), views.VIEW_FAMILIES.owner_of(type(training.augmentation))
    family = json.dumps(shown | ({"plugin": plugin.digest} if isinstance(plugin, Plugin) else {}), sort_keys=True)
    # Equal weights in another forward give other answers.
    builder, network = MODELS.owner(teacher.arch), f"{teacher.digest}:{teacher.arch}:{teacher.stem}"
    return tuple(
        BlockSpec(
            teacher=f"{network}:{builder.digest}" if isinstance(builder, Plugin) else network,
            data=pixels,
            views=family,
            num_images=len(split.train),
            num_views=training.augmentation.num_views,
            num_classes=split.num_classes,
            side=side,
            from_map=from_map,
            # Windows of a grid that does not fit the map overlap, and their mean is not the mean of the map.
            own_logits=map_side % side != 0 and side % map_side != 0,
            sequence=(config.seed, training.epochs) if kind == "stream" else None,
        )
        for side, from_map in sorted({grid_key(scale, method.grid) for scale in method.scales})
    )


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
        device, whole = batch.labels_B.device, np.arange(len(batch.labels_B))
        chunks = [self._entries(batch, whole[first : first + self.chunk]) for first in whole[:: self.chunk]]
        parts = []
        for block, entries in zip(self.blocks, zip(*chunks, strict=True), strict=True):
            rows_BRK, verdicts_BV = (torch.cat(tensors).to(device) for tensors in zip(*entries, strict=True))
            parts.append((block.spec, rows_BRK.to(torch.float16).float(), verdicts_BV))
        return CachedOutputs(parts)

    def on_device(self, device: torch.device, num_shown: int) -> device_cache.DeviceCache:
        """Give the same answers from a device's memory, for epochs of so many images."""
        return device_cache.DeviceCache(self, device, num_shown)

    def view_ids(self, epoch: int, indices_B: NDArray[np.int64]) -> NDArray[np.int64]:
        """Which views the trial's images show in an epoch."""
        return views.draw(self.config.seed, epoch, indices_B, self.config.training.augmentation.num_views)

    def missing(self, slots_B: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Say which slots lack an entry in some block."""
        return np.asarray(np.logical_or.reduce([block.missing(slots_B) for block in self.blocks]))

    def fill(self, batch: Batch, slots_B: NDArray[np.int64]) -> None:
        """Compute what a batch lacks, unless another trial is at it or was faster."""
        rows_B = np.flatnonzero(self.missing(slots_B))
        if not len(rows_B):
            return
        with ExitStack() as claims:
            for block in self.blocks:
                claims.enter_context(block.claim(slots_B[rows_B]))
            rows_B = rows_B[self.missing(slots_B[rows_B])]
            for first in range(0, len(rows_B), self.chunk):
                rows_C = rows_B[first : first + self.chunk]
                for block, (rows_CRK, verdicts_CV) in zip(self.blocks, self._entries(batch, rows_C), strict=True):
                    block.write(slots_B[rows_C], rows_CRK, verdicts_CV)
        self.computed += len(rows_B)

    def _entries(self, batch: Batch, rows_C: NDArray[np.int64]) -> list[tuple[Tensor, Tensor]]:
        """Run the teacher on a few rows of a batch; rows and verdicts for each block.

        Always on as many images at once, whatever the batch: kernels are chosen by shape, and an entry must have the
        same bits whoever computes it, with whatever neighbours.
        """
        padded_C = np.concatenate([rows_C, np.repeat(rows_C[:1], self.chunk - len(rows_C))])
        on_device_C = torch.from_numpy(padded_C).to(batch.images_BCHW.device)
        images_CCHW = batch.images_BCHW[on_device_C].contiguous(memory_format=torch.channels_last)
        labels_C, num = batch.labels_B[on_device_C], len(rows_C)
        device = images_CCHW.device
        with torch.no_grad(), torch.autocast(device.type, enabled=False), products(device, tf32=False):
            output = self.teacher(images_CCHW)
            made = [rows_of(output, self.teacher.head, block.spec, labels_C) for block in self.blocks]
        return [(rows_CRK[:num], verdicts_CV[:num]) for rows_CRK, verdicts_CV in made]


def open_cache(plan: CachePlan, config: TrialConfig, teacher: Network | None, folder: Path) -> TeacherCache | None:
    """Open the cache that was planned; None for ``off``, and no mirror of earlier trials' takes memory then."""
    if teacher is None or plan.mode == "off":
        device_cache.mirrors.clear()
        return None
    return TeacherCache(folder, plan, config, teacher)


def found_caches(folder: Path) -> list[Path]:
    """Folders of blocks below the folder of all teacher caches."""
    return sorted(path.parent for path in folder.glob(f"*/{HEADER}"))


def _saved_share(config: TrialConfig) -> float:
    """Share of one trial's teacher forwards that meet a view of an image for the second time, in expectation."""
    views_per_image, epochs = config.training.augmentation.num_views, config.training.epochs
    seen = views_per_image * (1 - (1 - 1 / views_per_image) ** epochs) if views_per_image > 1 else 1.0
    return 1 - min(1.0, seen / epochs)


def _room(folder: Path, specs: Sequence[BlockSpec], budget_gb: float) -> int:
    """Bytes that a cache may have in the end: the budget, and what the disk has left beside what it has already."""
    files = (file for spec in specs for file in block_folder(folder, spec).glob("*"))
    own = sum(512 * file.stat().st_blocks for file in files if file.is_file())
    above = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    return int(min(budget_gb * 1e9, shutil.disk_usage(above).free - _RESERVE + own))


def summary(plan: CachePlan, cache: TeacherCache | None = None) -> str:
    """Say in a line what was chosen, and how much of it is there."""
    if plan.mode == "off":
        return f"teacher runs live: {plan.reason}"
    there = ""
    if cache is not None:
        filled = sum(block.filled() for block in cache.blocks) / sum(block.spec.num_slots for block in cache.blocks)
        there = f", {filled:.0%} of it there"
    return f"teacher cache: {plan.mode} of {size_text(plan.num_bytes)}{there} ({plan.reason})"
