"""Teacher caches ahead of a trial or a sweep: filled for everything that it may show the teacher."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from typing import Any

from icd.config.habits import is_sweep
from icd.config.read_sweep import read_sweep
from icd.config.read_trial import read_trial
from icd.config.trial import TrialConfig
from icd.config.yaml import Document
from icd.search.suggest.search_space import SearchSpace
from icd.teacher.cache import open_cache, summary
from icd.teacher.cache_builder import build
from icd.teacher.cache_plan import CacheMode, CachePlan, plan_cache, suits
from icd.teacher.store import prepare
from icd.training.loop import Execution
from icd.worker.trial_inputs import TrialFolders, read_data


def build_caches(
    document: Document,
    where: TrialFolders,
    mode: CacheMode,
    budget_gb: float,
    execution: Execution,
    announce: Callable[[str], None],
) -> None:
    """Fill the caches of the trial or sweep in a document; a teacher that is missing is trained first."""
    space = SearchSpace(read_sweep(document)) if is_sweep(document.data) else None
    configs = space.extremes() if space else [read_trial(document)]
    teachers = dict.fromkeys(config.teacher for config in configs if config.teacher)
    sharing = len({config.teacher for config in configs if suits(config)})
    extent = space.extent() if space else {"trials": 2}  # who builds ahead means to train it again
    room = {"folder": where.teacher_cache, "budget_gb": budget_gb / max(1, sharing), **extent}
    if not teachers:
        announce("there is no teacher, and nothing to build")
    promised = 0
    for teacher in teachers:
        # A search may put whatever one of its trials has beside any of its teachers.
        taught = sorted(filter(lambda c: c.teacher, configs), key=lambda config: config.teacher != teacher)
        own = [replace(config, teacher=teacher) for config in taught]
        promised += _build_one(own, where, mode, {**room, "promised": promised}, execution, announce)


def _build_one(
    configs: Sequence[TrialConfig],
    where: TrialFolders,
    mode: CacheMode,
    room: Mapping[str, Any],
    execution: Execution,
    announce: Callable[[str], None],
) -> int:
    """Fill one teacher's caches; returns how many bytes the trials will still write there."""
    first, split = read_data(configs[0], where)
    ready = prepare(first, split, where.teachers, execution, announce)
    assert ready is not None  # the configurations have one
    announce(f"teacher {ready.summary}")
    pinned = [
        replace(config, data=first.data, teacher=replace(config.teacher, digest=ready.digest))
        for config in configs
        if config.teacher is not None
    ]
    plan = plan_cache(pinned, split, mode, **room)
    if plan.mode == "off":
        announce(summary(plan))
        return 0
    network = ready.network.to(execution.device).eval().requires_grad_(False)
    for own in _alike(list(filter(suits, pinned)), plan):
        part = replace(plan_cache(own, split, plan.mode, folder=where.teacher_cache, chosen=True), reason=plan.reason)
        answers = open_cache(part, own[0], network, where.teacher_cache)
        assert answers is not None  # the mode is not off
        with closing(answers):
            announce(summary(part, answers))
            computed = build(answers, split, execution)
        announce(f"cache is full; the teacher was run on {computed} images for it")
    return plan.to_come(where.teacher_cache)


def _alike(configs: Sequence[TrialConfig], plan: CachePlan) -> list[list[TrialConfig]]:
    """Put trials together whose entries lie in the same places: of the same views, and in a stream of one sequence."""
    if plan.mode == "full":
        return _grouped(configs, lambda config: config.training.augmentation)
    groups = _grouped(configs, lambda config: (config.training.augmentation, config.training.epochs))
    seeds = {config.seed for config in configs}
    if plan.saved:  # of seeds that single trials have, nobody knows which will come
        seeds.update(spec.sequence[0] for spec in plan.specs if spec.sequence)
    return [[replace(config, seed=seed) for config in own] for own in groups for seed in sorted(seeds)]


def _grouped(configs: Iterable[TrialConfig], by: Callable[[TrialConfig], Any]) -> list[list[TrialConfig]]:
    """Put trials together for which a function gives the same, in their order."""
    groups: dict[Any, list[TrialConfig]] = {}
    for config in configs:
        groups.setdefault(by(config), []).append(config)
    return list(groups.values())
