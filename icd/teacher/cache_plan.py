"""Plans a teacher's cache: which blocks trials need, and whether they fit.

full     every view of every image: for families with few views (CIFAR: 162), whatever seeds and epochs come
stream   the one sequence of views that all trials with the same seed and epochs see
off      the teacher runs live, in every step
"""

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any, Literal

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
NEEDED = ("seed", "training.epochs", "training.augmentation", "method.grid", "method.scales")  # what blocks depend on
_RESERVE = 10**9  # bytes of the disk that are left for everything else
_WORTH_IT = 0.2  # a cache must save at least this share of the teacher's forwards


@dataclass(frozen=True, slots=True, kw_only=True)
class CachePlan:
    """What was chosen, and why.

    Attributes:
        mode: ``full``, ``stream`` or ``off``.
        specs: The blocks that trials may need; none for ``off``.
        num_bytes: What the trials can fill of them at most.
        reason: For people.
        saved: The share of the trials' questions to the teacher that one of them has asked before, expected.
    """

    mode: Literal["full", "stream", "off"]
    specs: tuple[BlockSpec, ...] = ()
    num_bytes: int = 0
    reason: str = ""
    saved: float = 0.0

    def to_come(self, folder: Path) -> int:
        """Bytes that the trials will still write below the folder of all teacher caches."""
        return max(0, self.num_bytes - _written(folder, self.specs))


def plan_cache(
    configs: Sequence[TrialConfig],
    split: Split,
    mode: CacheMode = "auto",
    *,
    folder: Path,
    budget_gb: float = BUDGET_GB,
    promised: int = 0,
    trials: int = 0,
    ranges: Mapping[str, Sequence[float]] | None = None,
    chosen: bool = False,
) -> CachePlan:
    """Choose one that was begun, else the smaller of full and stream that fits the budget and the disk and is worth it.

    Args:
        configs: Trials of one teacher that will use it, their digests known; those that need features run live.
        split: Their images.
        mode: What the user asked for.
        folder: Of all teacher caches.
        budget_gb: What a cache may take.
        promised: Bytes of the disk that other teachers' caches will still take.
        trials: How many there will be at most where not all are given; 0 for those that are.
        ranges: What the others may have that is ``NEEDED``, by its path.
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
        return CachePlan(mode="off", reason=reason)
    if mode == "off":
        return CachePlan(mode="off", reason="as asked")
    plans = [_plan(suited, split, kind, trials or len(suited), ranges or {}) for kind in ("full", "stream")]
    lacking: dict[str, str] = {plan.mode: _lacking(plan, folder, budget_gb, promised) for plan in plans}
    sizes = ", ".join(f"{plan.mode} {size_text(plan.num_bytes)}" for plan in plans)
    for plan in plans:
        if plan.mode == mode:
            if lacking[mode] and not chosen:
                raise SetupError(f"--teacher-cache {lacking[mode]}; {sizes}")
            return replace(plan, reason=f"{'as before' if chosen else 'as asked'}; {sizes}")
    return _best(plans, lacking, folder, sizes)


def _best(plans: Sequence[CachePlan], lacking: Mapping[str, str], folder: Path, sizes: str) -> CachePlan:
    """Choose one of the two, or say what keeps either from it."""
    refused = []
    begun = {plan.mode: all((block_folder(folder, s) / HEADER).exists() for s in plan.specs) for plan in plans}
    for plan in sorted(plans, key=lambda plan: (not begun[plan.mode], plan.num_bytes)):
        if lacking[plan.mode]:
            refused.append(lacking[plan.mode])
        elif begun[plan.mode]:  # or built ahead; it is used whatever a new one would be
            return replace(plan, reason=f"it was begun before; {sizes}")
        elif plan.saved < _WORTH_IT:
            size = size_text(plan.num_bytes)
            refused.append(f"{plan.mode} needs {size}, but saves {plan.saved:.0%} of the teacher's work")
        else:
            return replace(plan, reason=sizes)
    return CachePlan(mode="off", reason="; ".join(refused))


def suits(config: TrialConfig) -> bool:
    """Whether a cache can stand for the teacher: the method asks for logits only."""
    return config.teacher is not None and isinstance(config.method, CellDistillation)


def _plan(
    configs: Sequence[TrialConfig],
    split: Split,
    kind: Literal["full", "stream"],
    trials: int,
    ranges: Mapping[str, Sequence[float]],
) -> CachePlan:
    """Say what trials need whose values lie among those of some configurations and in ranges, in any combination."""

    def values(path: str, own: set[Any]) -> list[Any]:
        return sorted(own.union(*(found for name, found in ranges.items() if name.startswith(path))), key=str)

    methods = [config.method for config in configs if isinstance(config.method, CellDistillation)]
    grids = values("method.grid", {method.grid for method in methods})
    scales = values("method.scales", {scale for method in methods for scale in method.scales})
    grid_keys = sorted({grid_key(int(scale), grid) for scale, grid in product(scales, grids)})
    seeds = values("seed", {config.seed for config in configs})
    epochs = values("training.epochs", {config.training.epochs for config in configs})
    sequences: list[tuple[int, int] | None] = [*product(seeds, epochs)] if kind == "stream" else [None]
    families = {config.training.augmentation: config for config in configs}
    blocks = [[_spec(config, split, *key) for key in grid_keys] for config in families.values()]
    shown = [[replace(s, sequence=sequence) for s in specs] for specs, sequence in product(blocks, sequences)]
    each = [sum(spec.num_bytes for spec in specs) for specs in shown]
    # Of views in ranges only some are known.
    is_open = any(name.startswith("training.augmentation") for name in ranges)
    num_families = trials if is_open else len(families)
    num_sequences = min(trials, num_families * len(seeds) * len(epochs))
    asked = float(num_sequences)  # of the teacher, counted in trainings
    if kind == "full":
        num_views = max(family.num_views for family in families)
        draws = num_sequences * max(epochs) / num_families  # of an image's view
        asked = num_families * num_views * (1 - (1 - 1 / num_views) ** draws) / max(epochs)
    return CachePlan(
        mode=kind,
        specs=tuple(spec for specs in shown for spec in specs),
        num_bytes=trials * max(each) if is_open else min(sum(each), trials * max(each)),
        saved=max(0.0, 1 - asked / trials),
    )


def _spec(config: TrialConfig, split: Split, side: int, from_map: bool) -> BlockSpec:
    teacher, training = config.teacher, config.training
    if teacher is None or teacher.digest is None:
        raise ValueError("a cache needs a teacher with its digest")
    map_side = feature_size(teacher.arch, teacher.stem, training.augmentation.size)[1]
    more = [] if config.data.train_on == "train" else [config.data.train_on]  # what is measured on is not in the cache
    pixels = json.dumps([config.data.digest, list(split.mean), list(split.std), *more])
    shown, plugin = plain_data(training.augmentation), views.VIEW_FAMILIES.owner_of(type(training.augmentation))
    family = json.dumps(shown | ({"plugin": plugin.digest} if isinstance(plugin, Plugin) else {}), sort_keys=True)
    # Equal weights in another forward give other answers.
    builder, network = MODELS.owner(teacher.arch), f"{teacher.digest}:{teacher.arch}:{teacher.stem}"
    return BlockSpec(
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
    )


def _lacking(plan: CachePlan, folder: Path, budget_gb: float, promised: int) -> str:
    """Say that a cache has not enough of the budget, or of what the disk has left beside it; empty where it has."""
    above = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    free = shutil.disk_usage(above).free - _RESERVE - promised + _written(folder, plan.specs)
    room = max(0, min(int(budget_gb * 1e9), free))
    needed = f"{plan.mode} needs {size_text(plan.num_bytes)}"
    return f"{needed}, but got {size_text(room)} of budget and disk" if plan.num_bytes > room else ""


def _written(folder: Path, specs: Sequence[BlockSpec]) -> int:
    files = (file for spec in specs for file in block_folder(folder, spec).glob("*"))
    return sum(512 * file.stat().st_blocks for file in files if file.is_file())
