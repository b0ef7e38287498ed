"""Which parameters decided how good a trial was: PED-ANOVA, each parameter judged among the trials that have it.

PED-ANOVA (Watanabe, Bansal and Hutter, IJCAI 2023) compares the density of a parameter among the best trials with its
density among all: importance = E[(p_best / p_all - 1)^2], 0 where the best trials look like the others. Given a space
with branches, a study-wide figure mixes "this branch is good" into each parameter of the branch. So parameters are put
into groups by the trials that have them, and every group is its own analysis. A random search of the same size also
gives figures above 0; ``chance`` says how large they get when the values are dealt to the trials at random.
"""

import math
import random
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from optuna.distributions import CategoricalDistribution
from optuna.trial import FrozenTrial

from icd.results.densities import importances
from icd.search.core.records import TrialRecord
from icd.search.study.ledger import Ledger

FEWEST = 8  # complete trials; below, a density is a guess
_BEST_SHARE = 0.1
_FEWEST_BEST = 5
_SHUFFLES = 19  # the largest of so many is passed by chance once in twenty


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameter:
    """One parameter's importance.

    Attributes:
        name: As in the study.
        importance: Pearson divergence between the best trials and all, as Optuna scales it; None where too few have it,
            or all of them are equally good.
        chance: What it reaches by chance in one case out of twenty.
    """

    name: str
    importance: float | None
    chance: float | None

    @property
    def is_clear(self) -> bool:
        """Whether chance alone would hardly give as much."""
        return self.importance is not None and self.chance is not None and self.importance > self.chance


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """Parameters that the same trials have, most important first.

    Attributes:
        condition: What these trials have in common, such as ``base_loss = dkd``; empty for all trials.
        trials: How many there are.
        best: How many of them count as the best.
        parameters: Those that only these trials have.
    """

    condition: str
    trials: int
    best: int
    parameters: tuple[Parameter, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Importance:
    """The importance of every parameter; ``trials`` counts complete ones with parameters, ``reason`` says why none."""

    trials: int
    groups: tuple[Group, ...]
    reason: str = ""

    def to_data(self) -> dict[str, Any]:
        """Write it for JSON."""
        return asdict(self)


def importance_of(ledger: Ledger, records: Sequence[TrialRecord]) -> Importance:
    """Judge the parameters of a sweep by its first objective; baselines outside the space do not count.

    Args:
        ledger: Of the sweep.
        records: Its trials, those of the search alone.
    """
    numbers = {record.number for record in records if record.state == "complete" and record.params}
    return parameter_importance(ledger.frozen(numbers), ledger.study.directions[0].name.lower())


def parameter_importance(trials: Sequence[FrozenTrial], direction: str) -> Importance:
    """Judge the parameters of complete trials.

    Args:
        trials: With parameters and at least one value.
        direction: ``maximize`` or ``minimize``, of the first value.
    """
    if len(trials) < FEWEST:
        return Importance(
            trials=len(trials),
            groups=(),
            reason=f"only {len(trials)} of the complete trials have parameters; at least {FEWEST} are needed",
        )
    having: dict[str, list[FrozenTrial]] = defaultdict(list)
    for trial in trials:
        for name in trial.params:
            having[name].append(trial)
    groups: dict[tuple[int, ...], list[str]] = defaultdict(list)
    for name, own in having.items():
        groups[tuple(trial.number for trial in own)].append(name)
    found = [_group(trials, having[names[0]], names, direction) for names in groups.values()]
    return Importance(
        trials=len(trials), groups=tuple(sorted(found, key=lambda group: (-group.trials, group.condition)))
    )


def _group(
    everything: Sequence[FrozenTrial], trials: Sequence[FrozenTrial], names: Sequence[str], direction: str
) -> Group:
    condition = "" if len(trials) == len(everything) else _condition(everything, trials)
    sign = -1.0 if direction == "maximize" else 1.0
    losses = [sign * trial.values[0] for trial in trials]
    share = min(0.5, max(_BEST_SHARE, _FEWEST_BEST / len(trials)))
    cutoff = sorted(losses)[math.ceil(share * len(losses)) - 1]
    best = sum(loss <= cutoff for loss in losses)
    if len(trials) < FEWEST or best == len(trials):
        nothing = tuple(Parameter(name=name, importance=None, chance=None) for name in sorted(names))
        return Group(condition=condition, trials=len(trials), best=best, parameters=nothing)
    draw = random.Random(0)
    dealt = [draw.sample(losses, len(losses)) for _ in range(_SHUFFLES)]
    chosen = np.array([losses, *dealt]) <= cutoff
    found = {
        name: importances(trials[0].distributions[name], [trial.params[name] for trial in trials], chosen)
        for name in names
    }
    rows = [Parameter(name=name, importance=float(own[0]), chance=float(own[1:].max())) for name, own in found.items()]
    rows.sort(key=lambda row: (-(row.importance or 0.0), row.name))
    return Group(condition=condition, trials=len(trials), best=best, parameters=tuple(rows))


def _condition(everything: Sequence[FrozenTrial], trials: Sequence[FrozenTrial]) -> str:
    """Find a choice that tells these trials from all others."""
    numbers = {trial.number for trial in trials}
    others = [trial for trial in everything if trial.number not in numbers]
    for name, distribution in trials[0].distributions.items():
        if isinstance(distribution, CategoricalDistribution) and all(name in trial.params for trial in trials):
            ours = {trial.params[name] for trial in trials}
            if not ours & {trial.params.get(name) for trial in others}:
                return f"{name} = {' or '.join(str(choice) for choice in distribution.choices if choice in ours)}"
    return f"the {len(trials)} trials that were asked for it"
