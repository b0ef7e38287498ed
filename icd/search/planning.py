"""What a sweep would try and cost, before it starts."""

import math
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from icd.config.checks import notes_of
from icd.config.names import shown_params
from icd.config.sweep import PrunerConfig, SweepConfig
from icd.config.trial import TrialConfig
from icd.config.walk import Dimension
from icd.machine import usable_cpus
from icd.models import build_model
from icd.search.core.preparation import PreflightResult
from icd.search.executors.local.executor import LocalExecutor, partition_devices
from icd.search.foresight import Foresight, foresight
from icd.search.settings import Settings, preparation
from icd.search.study.database import memory_storage
from icd.search.study.ledger import Ledger
from icd.search.suggest.samplers import drive, refuse_pickles
from icd.search.suggest.search_space import SearchSpace, Start
from icd.search.suggest.warm_start import planned_starts
from icd.worker.gpus import visible_gpus

_SUGGESTIONS = 5
_CLASSES = 100  # where the data set's number is known only after reading it
_FIGURES_BYTES = 100_000  # Gram matrices and metrics of a trial
_CHECKPOINTS_KEPT = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """What a sweep is predicted to take: the expected number and the most."""

    # with pruning as it works on average, and with nothing pruned; None where only hours end the sweep
    epochs: tuple[int, int] | None
    wall_hours: tuple[float, float] | None = None  # of this machine
    # GPUs of a trial, or its share of its process's, times its time; zero without a GPU
    gpu_hours: tuple[float, float] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """A sweep before it starts."""

    name: str
    dimensions: Sequence[Dimension]  # what is sampled
    configurations: int | None  # how many there are; None where a range has no step
    baselines: Sequence[str]  # labels of what is tried first
    starts: Sequence[Start]  # trials of other sweeps that are tried next
    suggestions: Mapping[int, Mapping[str, Any]]  # parameters of the first sampled trials, by trial number
    trials: int | None  # how many trials budget and space allow; None where only hours end the sweep
    concurrent: int  # how many run at a time on this machine
    device: str | None  # what was measured on; None where nothing was
    paces: Mapping[str, Mapping[str, float]]  # for each teacher and student what was measured
    cost: Cost
    # expected, with everything that a trial keeps; of the first ``concurrent`` trials where their number is not known
    disk_bytes: int
    basis: Sequence[str]  # how the numbers were made, in sentences
    foresight: Foresight  # what curves that are there say of the pruner's rungs


def make_plan(sweep: SweepConfig, settings: Settings, *, measure: bool, curves: Path | None = None) -> Plan:
    """Look ahead. Without ``measure`` nothing is created or read but the configuration and the sweeps it starts from.

    With it the data are read, a missing teacher is trained, and a few steps of each pair of networks are timed.
    ``curves`` is a table of recorded curves to judge rungs by.
    """
    refuse_pickles(sweep, settings.root)
    space = SearchSpace(sweep, planned_starts(sweep, settings.root, settings.announce))
    trials_of_corners = [space.members(space.document(corner)) for corner in space.corners()]
    configs = [run.config for runs in trials_of_corners for run in runs]
    for line in notes_of(configs):
        settings.announce(f"note: {line}")
    devices = partition_devices(sweep.resources, usable_cpus(), visible_gpus())
    prepared = _measure(space, sweep, settings, devices) if measure else None
    trials = space.trials()
    epochs = max(runs[-1].last for runs in trials_of_corners)
    paces = prepared.paces if prepared else {}
    gpus_per_trial = sweep.resources.gpus_of_a_trial(bool(prepared and prepared.gpus))
    concurrent = len(devices) if trials is None else min(len(devices), trials)
    known = foresight(sweep, settings.root, epochs, curves)
    if warning := known.warning(sweep):
        settings.announce(f"WARNING: {warning}")
    return Plan(
        name=sweep.name,
        dimensions=space.dimensions(),
        configurations=space.size(),
        baselines=[baseline.label for baseline in sweep.enqueue],
        starts=space.starts,
        suggestions=_suggestions(sweep, space),
        trials=trials,
        concurrent=concurrent,
        device=prepared.device if prepared else None,
        paces=paces,
        cost=predict(sweep, trials, epochs, paces, concurrent=concurrent, gpus_per_trial=gpus_per_trial),
        disk_bytes=len(trials_of_corners[0])
        * _disk(configs, trials or concurrent, concurrent, prepared.num_classes if prepared else None),
        basis=_basis(sweep, measured=bool(paces), trials=trials),
        foresight=known,
    )


def predict(
    sweep: SweepConfig,
    trials: int | None,
    epochs: int,
    paces: Mapping[str, Mapping[str, float]],
    *,
    concurrent: int,
    gpus_per_trial: float,
) -> Cost:
    """Predict epochs, and time where paces were measured; of a sweep that ends by its hours, those."""
    if trials is None:
        limits = sweep.budget.hours, sweep.budget.gpu_hours
        wall, gpu = (None if hours is None else (hours, hours) for hours in limits)
        return Cost(epochs=None, wall_hours=wall, gpu_hours=gpu)
    sampled = max(0, trials - len(sweep.enqueue))
    share = sweep.pruner.control_fraction if sweep.pruner.compares else 1.0
    whole = trials - sampled + share * sampled
    expected = whole * epochs + (1 - share) * sampled * epochs_when_pruned(sweep.pruner, epochs)
    most = trials * epochs
    if not paces:
        return Cost(epochs=(round(expected), most))
    typical = sum(pace["epoch_seconds"] for pace in paces.values()) / len(paces)
    spread = max(pace["spread"] for pace in paces.values())
    seconds = expected * typical, most * typical * spread
    return Cost(
        epochs=(round(expected), most),
        wall_hours=(seconds[0] / 3600 / concurrent, seconds[1] / 3600 / concurrent),
        gpu_hours=(seconds[0] / 3600 * gpus_per_trial, seconds[1] / 3600 * gpus_per_trial),
    )


def epochs_when_pruned(pruner: PrunerConfig, epochs: int) -> float:
    """Mean epochs of a trial that may be stopped.

    Successive halving lets one in ``reduction`` past each rung; hyperband shares trials among halvings that begin
    later and later, most to the first; the median rule is taken to stop half of the trials at ``min_epochs``.
    """
    if pruner.name == "successive_halving":
        return _halving(pruner.min_epochs, pruner.reduction, epochs)
    if pruner.name == "hyperband":
        first, reduction = pruner.min_epochs, pruner.reduction
        brackets = math.floor(math.log(max(epochs, first) / first, reduction)) + 1  # rounded as Optuna does
        shares: list[int] = [math.ceil(brackets * reduction ** (left - 1) / left) for left in range(brackets, 0, -1)]
        means = [_halving(first * reduction**bracket, reduction, epochs) for bracket in range(brackets)]
        return sum(share * mean for share, mean in zip(shares, means, strict=True)) / sum(shares)
    if pruner.name == "median":
        return (min(pruner.min_epochs, epochs) + epochs) / 2
    return float(epochs)


def _halving(first: int, reduction: int, epochs: int) -> float:
    rung, passing, total = min(first, epochs), 1.0, float(min(first, epochs))
    while rung < epochs:
        following, passing = min(rung * reduction, epochs), passing / reduction
        total += passing * (following - rung)
        rung = following
    return total


def _measure(space: SearchSpace, sweep: SweepConfig, settings: Settings, devices: Sequence[str]) -> PreflightResult:
    with tempfile.TemporaryDirectory(prefix="icd-plan-") as logs:
        executor = LocalExecutor(devices[:1], Path(logs), threads=max(1, int(sweep.resources.cpus_per_trial)))
        try:
            request = replace(
                preparation(space.extremes(), sweep, settings, probe=True, **space.extent()), measure=True
            )
            return executor.prepare(request, settings.announce, settings.stop)
        finally:
            executor.close()


def _suggestions(sweep: SweepConfig, space: SearchSpace) -> dict[int, dict[str, Any]]:
    """Ask a study in memory, seeded and numbered as the real one would be, for no more than the budget allows."""
    ledger = Ledger.create(memory_storage(), sweep, {})
    drive(ledger, sweep, space.untried(), 1)
    for item in space.enqueued:
        ledger.add_baseline(item.label, {}, {}, {})
    trials = sweep.budget.trials
    room = _SUGGESTIONS if trials is None else max(0, trials - len(space.enqueued))
    for _ in range(min(_SUGGESTIONS, space.size() or _SUGGESTIONS, room)):
        ledger.ask(space.suggest)
    return {record.number: shown_params(record.params) for record in ledger.records() if record.baseline is None}


def _disk(configs: Sequence[TrialConfig], trials: int, concurrent: int, num_classes: int | None) -> int:
    """Estimate the most that is needed: students and figures of all, checkpoints of those under way."""
    networks = {(config.student.arch, config.student.stem): config for config in configs}
    sizes = []
    for (arch, stem), config in networks.items():
        network = build_model(arch, num_classes=num_classes or config.data.num_classes or _CLASSES, stem=stem)
        sizes.append(4 * sum(weight.numel() for weight in network.parameters()))
    student = sum(sizes) / len(sizes)
    return round(trials * (student + _FIGURES_BYTES) + concurrent * student * 2 * _CHECKPOINTS_KEPT)


def _basis(sweep: SweepConfig, *, measured: bool, trials: int | None) -> list[str]:
    lines = ["epochs: first as the pruner works on average (control trials and baselines whole), then with none pruned"]
    if not sweep.pruner.compares:
        lines = ["epochs: nothing is pruned"]
    if sweep.pairs:
        pairs = ", ".join(pair.name for pair in sweep.pairs)
        lines.append(f"every trial is trained on {len(sweep.pairs)} pairs, one after another: {pairs}")
    if sweep.pruner.dead_terms:
        lines.append("epochs: trials that stop because a term is dead are not foreseen")
    if measured:
        lines.append(
            "time: first the median measured step, then with none pruned and every step as slow as the slowest one; "
            "one trial was measured alone, so trials that share a device may be slower; teacher caches count as full"
        )
    else:
        lines.append(
            "time: not known; --measure times a few steps here, and first trains the teacher if there is none yet"
        )
    if trials is None:
        lines.append("trials: as many as the hours allow; the disk is that of the first ones at a time")
    lines.append("disk: the student's weights and figures of every trial, two checkpoints of those under way")
    if sweep.sampler.name not in ("grid", "random"):
        lines.append("an adaptive search cannot be listed in full: later suggestions depend on results")
    return lines
