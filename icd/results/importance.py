"""Which parameters decided how good a trial was: the share of the trials' ranks that each one explains by itself.

The share is R squared of a least-squares fit of the trials' ranks, by the first objective, to one parameter: to its
choices, or to the rank of its value and that squared. It is above 0 in a search without any effect too, so it is
judged by the F test of that fit (Conover and Iman, The American Statistician 35, 1981, for ranks), and p-values are
adjusted for all parameters (Bonferroni): in a search without effects any passes in one of twenty.

Shape key: N trials, K columns of a fit.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from optuna.distributions import CategoricalDistribution
from optuna.trial import FrozenTrial
from scipy.special import fdtrc

from icd.search.core.ranks import ranks
from icd.search.core.records import TrialRecord
from icd.search.study.ledger import Ledger

FEWEST = 30  # complete trials; with fewer, even a strong effect rarely passes
_PASSES = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameter:
    """One parameter's importance, by its name in the study."""

    name: str
    trials: int  # how many have it
    share: float | None = None  # of their ranks that it explains, 0 to 1; None where fewer than 30 trials have it
    p: float | None = None  # chance that any parameter of a search without effects looks as clear; None likewise

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


def importance_of(ledger: Ledger, records: Sequence[TrialRecord]) -> Importance:
    """Judge the parameters of a sweep by the trials of its search; baselines outside the space do not count."""
    numbers = {record.number for record in records if record.state == "complete" and record.params}
    return parameter_importance(ledger.frozen(numbers))


def parameter_importance(trials: Sequence[FrozenTrial]) -> Importance:
    """Judge the parameters of complete trials, which have parameters and at least one value."""
    if len(trials) < FEWEST:
        why = f"only {len(trials)} complete trials have parameters; at least {FEWEST} are needed"
        return Importance(trials=len(trials), reason=why)
    names = dict.fromkeys(name for trial in trials for name in trial.params)
    having = {name: [trial for trial in trials if name in trial.params] for name in names}
    judged = {name: _judged(own, name) for name, own in having.items() if len(own) >= FEWEST}
    rows = []
    for name, own in having.items():
        share, p = judged.get(name, (None, None))
        p = None if p is None else min(1.0, len(judged) * p)
        rows.append(Parameter(name=name, trials=len(own), share=share, p=p))
    rows.sort(key=lambda row: (1.0 if row.p is None else row.p, -(row.share or 0.0), row.name))
    return Importance(trials=len(trials), parameters=tuple(rows))


def _judged(trials: Sequence[FrozenTrial], name: str) -> tuple[float, float]:
    """Give the share of the trials' ranks that a parameter explains, and the chance of as much without an effect.

    With N trials and K columns of a fit beyond the mean, `F = (share / K) / ((1 - share) / (N - K - 1))`.
    """
    values, rank_N = [trial.params[name] for trial in trials], np.array(ranks([trial.values[0] for trial in trials]))
    if isinstance(trials[0].distributions[name], CategoricalDistribution):
        design_NK = np.array([[float(value == choice) for choice in dict.fromkeys(values)] for value in values])
    else:
        place_N = np.array(ranks(values)) / len(values) - 0.5
        design_NK = np.stack([place_N, place_N**2], axis=1)
    basis_NK, size_K, _ = np.linalg.svd(design_NK - design_NK.mean(axis=0), full_matrices=False)
    centred_N, basis_NK = rank_N - rank_N.mean(), basis_NK[:, size_K > 1e-9]
    total, rest = float(centred_N @ centred_N), len(trials) - basis_NK.shape[1] - 1
    if not total or not basis_NK.size or rest < 1:
        return 0.0, 1.0
    share = float(((centred_N @ basis_NK) ** 2).sum()) / total
    return share, float(fdtrc(basis_NK.shape[1], rest, share * rest / max(1 - share, 1e-12) / basis_NK.shape[1]))
