"""Which parameters decided how good a trial was: the share of the trials' ranks that each one explains by itself.

The share is R squared of a least-squares fit of the trials' ranks, by the first objective, to one parameter: to its
choices, or to the rank of its value and that squared. It is above 0 in a search without any effect too, so ranks are
dealt to the trials at random: a parameter passes where the smallest p-value of all parameters is as small in at most
one of twenty deals (Westfall and Young, Resampling-based multiple testing, 1993, chapter 2).

Shape key: N trials, D deals (the first is what was found), K columns of a fit, P parameters.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from optuna.distributions import CategoricalDistribution
from optuna.trial import FrozenTrial

from icd.search.core.ranks import ranks
from icd.search.core.records import TrialRecord
from icd.search.study.ledger import Ledger

Floats = NDArray[np.floating[Any]]

FEWEST = 30  # complete trials; with fewer, even a strong effect rarely passes
_DEALS = 1999
_PASSES = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameter:
    """One parameter's importance.

    Attributes:
        name: As in the study.
        condition: What the trials have in common that have it, such as ``base_loss = dkd``; empty for all trials.
        trials: How many there are.
        share: Of their ranks that it explains, 0 to 1; None where fewer than 30 trials have it.
        p: Chance that any parameter of a search without effects looks as clear; None likewise.
    """

    name: str
    condition: str
    trials: int
    share: float | None = None
    p: float | None = None

    @property
    def passes(self) -> bool:
        """Whether chance alone would hardly give as much."""
        return self.p is not None and self.p <= _PASSES


@dataclass(frozen=True, slots=True, kw_only=True)
class Importance:
    """Every parameter, the clearest first; ``trials`` counts complete ones, ``reason`` says why there is none."""

    trials: int
    parameters: tuple[Parameter, ...] = ()
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
        why = f"only {len(trials)} complete trials have parameters; at least {FEWEST} are needed"
        return Importance(trials=len(trials), reason=why)
    names = list(dict.fromkeys(name for trial in trials for name in trial.params))
    having = {name: [place for place, trial in enumerate(trials) if name in trial.params] for name in names}
    sign = -1.0 if direction == "maximize" else 1.0
    rank_N = np.array(ranks([sign * trial.values[0] for trial in trials]))
    dealt_DN = np.random.default_rng(0).permuted(np.tile(rank_N, (_DEALS + 1, 1)), axis=1)
    dealt_DN[0] = rank_N
    shares = {
        name: _shares(_fit([trials[place] for place in places], name), dealt_DN[:, places])
        for name, places in having.items()
        if len(places) >= FEWEST
    }
    adjusted = _adjusted(np.array([*shares.values()]).T) if shares else ()
    judged = {name: (float(shares[name][0]), p) for name, p in zip(shares, adjusted, strict=True)}
    rows = [_row(trials, name, places, judged.get(name)) for name, places in having.items()]
    rows.sort(key=lambda row: (1.0 if row.p is None else row.p, -(row.share or 0.0), row.name))
    return Importance(trials=len(trials), parameters=tuple(rows))


def _row(
    trials: Sequence[FrozenTrial], name: str, places: Sequence[int], judged: tuple[float, float] | None
) -> Parameter:
    share, p = judged or (None, None)
    return Parameter(name=name, condition=_condition(trials, places), trials=len(places), share=share, p=p)


def _fit(trials: Sequence[FrozenTrial], name: str) -> Floats:
    """Give an orthonormal basis [N, K] of what a parameter can explain beyond the mean."""
    values = [trial.params[name] for trial in trials]
    if isinstance(trials[0].distributions[name], CategoricalDistribution):
        design_NK = np.array([[float(value == choice) for choice in dict.fromkeys(values)] for value in values])
    else:
        place_N = np.array(ranks(values)) / len(values) - 0.5
        design_NK = np.stack([place_N, place_N**2], axis=1)
    basis_NK, size_K, _ = np.linalg.svd(design_NK - design_NK.mean(axis=0), full_matrices=False)
    found: Floats = basis_NK[:, size_K > 1e-9]
    return found


def _shares(basis_NK: Floats, rank_DN: Floats) -> Floats:
    """Give the share of each row of ranks that a basis explains."""
    centred_DN = rank_DN - rank_DN.mean(axis=1, keepdims=True)
    total_D = (centred_DN**2).sum(axis=1)
    found: Floats = ((centred_DN @ basis_NK) ** 2).sum(axis=1) / np.where(total_D > 0, total_D, 1.0)
    return np.round(found, 9)


def _adjusted(share_DP: Floats) -> list[float]:
    """Give each parameter the share of deals whose smallest p-value is as small as its own."""
    ordered_DP = np.sort(share_DP, axis=0)
    above_DP = [
        len(share_DP) - np.searchsorted(own_D, at_D) for own_D, at_D in zip(ordered_DP.T, share_DP.T, strict=True)
    ]
    p_DP = np.array(above_DP).T
    return [float(np.mean(p_DP.min(axis=1) <= own)) for own in p_DP[0]]


def _condition(everything: Sequence[FrozenTrial], places: Sequence[int]) -> str:
    """Find a choice that tells these trials from all others."""
    if len(places) == len(everything):
        return ""
    trials = [everything[place] for place in places]
    others = [trial for place, trial in enumerate(everything) if place not in set(places)]
    for name, distribution in trials[0].distributions.items():
        if isinstance(distribution, CategoricalDistribution) and all(name in trial.params for trial in trials):
            ours = {trial.params[name] for trial in trials}
            if not ours & {trial.params.get(name) for trial in others}:
                return f"{name} = {' or '.join(str(choice) for choice in distribution.choices if choice in ours)}"
    return f"the {len(trials)} trials that were asked for it"
