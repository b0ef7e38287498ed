"""Plans a teacher's cache: which blocks trials need, and whether they fit.

full     every view of every image: for families with few views (CIFAR: 162), whatever seeds and epochs come
stream   the one sequence of views that all trials with the same seed and epochs see
off      the teacher runs live, in every step
"""

import json
import shutil
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from icd.config.trial import TrialConfig, plain_data
from icd.data import views
from icd.data.split import Split
from icd.errors import ConfigError, SetupError
from icd.methods import CellDistillation
from icd.models import MODELS, feature_size
from icd.plugins import Plugin
from icd.teacher.cache_block import HEADER, BlockSpec, block_folder
from icd.teacher.cached_outputs import grid_key
from icd.text import size_text

CacheMode = Literal["auto", "full", "stream", "off"]
BUDGET_GB = 64.0
_RESERVE = 10**9  # bytes of the disk that are left for everything else
_WORTH_IT = 0.2  # a cache for a single trial must save at least this share of the teacher's forwards


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
