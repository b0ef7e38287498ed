"""Teacher caches ahead of a trial or a sweep: filled for everything that it may show the teacher."""

from collections.abc import Callable, Iterable, Sequence
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
from icd.teacher.cache_plan import CacheMode, plan_cache, suits
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
    groups = _grouped(_configs(document), lambda config: config.teacher)
    sharing = max(1, sum(any(map(suits, own)) for own in groups))
    for own in groups:
        _build_one(own, where, mode, budget_gb / sharing, execution, announce)


def _build_one(
    configs: Sequence[TrialConfig],
    where: TrialFolders,
    mode: CacheMode,
    budget_gb: float,
    execution: Execution,
    announce: Callable[[str], None],
) -> None:
    first, split = read_data(configs[0], where)
    ready = prepare(first, split, where.teachers, execution, announce)
    if ready is None or first.teacher is None:
        announce("there is no teacher, and nothing to build")
        return
    announce(f"teacher {ready.summary}")
    pinned = [
        replace(config, data=first.data, teacher=replace(config.teacher or first.teacher, digest=ready.digest))
        for config in configs
    ]
    plan = plan_cache(pinned, split, mode, folder=where.teacher_cache, budget_gb=budget_gb)
    if plan.mode == "off":
        announce(summary(plan))
    network = ready.network.to(execution.device).eval().requires_grad_(False)
    # Entries lie in the same places where views and their sequence are the same.
    cached = filter(suits, pinned) if plan.mode != "off" else ()
    for own in _grouped(cached, lambda config: (config.training.augmentation, config.seed, config.training.epochs)):
        part = replace(plan_cache(own, split, plan.mode, folder=where.teacher_cache, chosen=True), reason=plan.reason)
        answers = open_cache(part, own[0], network, where.teacher_cache)
        if answers is None:
            continue
        announce(summary(part, answers))
        try:
            computed = build(answers, split, execution)
        finally:
            answers.close()
        announce(f"cache is full; the teacher was run on {computed} images for it")


def _configs(document: Document) -> list[TrialConfig]:
    """Give the trial of a file, or every corner and baseline of a sweep."""
    if not is_sweep(document.data):
        return [read_trial(document)]
    return SearchSpace(read_sweep(document)).extremes()


def _grouped(configs: Iterable[TrialConfig], by: Callable[[TrialConfig], Any]) -> list[list[TrialConfig]]:
    """Put trials together for which a function gives the same, in their order."""
    groups: dict[Any, list[TrialConfig]] = {}
    for config in configs:
        groups.setdefault(by(config), []).append(config)
    return list(groups.values())
