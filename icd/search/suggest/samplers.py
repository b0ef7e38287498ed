"""Samplers and pruners by name, and the one thing added to them: a draw depends on nothing but what is known.

A sampler of Optuna carries a random state from trial to trial, so a driver that was killed would go on differently
from one that was not. Here every draw comes from a fresh sampler seeded by (sweep seed, trial number, parameter).
"""

import hashlib
import heapq
import warnings
from collections.abc import Callable, Mapping, Sequence
from itertools import islice, takewhile
from pathlib import Path
from typing import Any

import optuna
from optuna.distributions import BaseDistribution
from optuna.pruners import BasePruner, HyperbandPruner, MedianPruner, NopPruner, SuccessiveHalvingPruner
from optuna.samplers import BaseSampler, CmaEsSampler, NSGAIISampler, RandomSampler, TPESampler
from optuna.study import Study, StudyDirection
from optuna.trial import FrozenTrial, TrialState

from icd.config.sweep import PrunerConfig, SamplerConfig, SweepConfig
from icd.errors import ConfigError
from icd.search.study.database import is_shared, storage_url
from icd.search.study.ledger import Ledger
from icd.search.study.optuna_internals import showing
from icd.search.study.sweep_study import OUTSIDE
from icd.search.suggest.gp_sampler import AlternatingSampler, ConditionalGPSampler
from icd.search.suggest.search_space import UntriedPoints

_IN_VAIN = 10  # duplicates in a row after which a sampler is asked no more: it says the same again

# A Gaussian process takes 2 s for 200 results and eight times as long for twice as many. CMA-ES and NSGA-II keep to
# their last generation by themselves, and random draws learn nothing.
MOST_FINISHED: Mapping[str, int] = {"auto": 1000, "tpe": 1000, "gp": 200}

Seen = Callable[[list[FrozenTrial]], list[FrozenTrial]]


class _SteadyNSGAIISampler(NSGAIISampler):
    """Parents in order of their numbers: Optuna gives them by rank when it selects them, by number ever after."""

    def get_parent_population(self, study: Study, generation: int) -> list[FrozenTrial]:
        return sorted(super().get_parent_population(study, generation), key=lambda parent: parent.number)


def _tpe(config: SamplerConfig, seed: int) -> BaseSampler:
    # Groups, because our spaces are conditional: without them one base loss's fields hide the joint model of the rest.
    # No constant liar: with 8 workers its penalty hides the good region (docs/results, sample efficiency), and equal
    # configurations are not trained twice anyway.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        return TPESampler(
            seed=seed, n_startup_trials=config.startup_trials, multivariate=True, group=True, constant_liar=False
        )


def _gp(config: SamplerConfig, seed: int) -> BaseSampler:
    return ConditionalGPSampler(seed=seed, n_startup_trials=config.startup_trials, warn_independent_sampling=False)


# Grid is missing on purpose: it is never asked, and its points come from the space, in order.
SAMPLERS: Mapping[str, Callable[[SamplerConfig, int], BaseSampler]] = {
    "auto": lambda config, seed: AlternatingSampler(_tpe(config, seed), _gp(config, seed)),
    "tpe": _tpe,
    "random": lambda config, seed: RandomSampler(seed=seed),
    "gp": _gp,
    "cmaes": lambda config, seed: CmaEsSampler(seed=seed, n_startup_trials=max(1, config.startup_trials)),
    "nsga2": lambda config, seed: _SteadyNSGAIISampler(seed=seed, population_size=max(2, config.startup_trials)),
}

# By the epochs that a trial trains for.
PRUNERS: Mapping[str, Callable[[PrunerConfig, int], BasePruner]] = {
    "successive_halving": lambda config, _: SuccessiveHalvingPruner(
        min_resource=config.min_epochs, reduction_factor=config.reduction
    ),
    "hyperband": lambda config, epochs: HyperbandPruner(
        min_resource=config.min_epochs,
        max_resource=max(epochs, config.min_epochs),
        reduction_factor=config.reduction,
    ),
    "median": lambda config, _: MedianPruner(n_startup_trials=config.startup_trials, n_warmup_steps=config.min_epochs),
    "none": lambda *_: NopPruner(),
}


def subsample_history(
    trials: list[FrozenTrial], directions: Sequence[StudyDirection], limit: int | None
) -> list[FrozenTrial]:
    """Give at most ``limit`` of the finished trials, and all that are under way, in their order.

    Half of those kept are the best complete ones, the same number for each objective; the others are the newest. TPE
    tells at most 25 good trials from the rest, and the rest is known from hundreds as well as from thousands.
    """
    finished = [trial for trial in trials if trial.state.is_finished()]
    if limit is None or len(finished) <= limit:
        return trials
    kept: set[int] = set()
    complete = [trial for trial in finished if trial.state == TrialState.COMPLETE]
    for index, direction in enumerate(directions):
        sign = -1.0 if direction == StudyDirection.MAXIMIZE else 1.0
        ordered = ((sign * trial.values[index], trial.number) for trial in complete)
        kept |= {number for _, number in heapq.nsmallest(limit // (2 * len(directions)), ordered)}
    for trial in reversed(finished):
        if len(kept) == limit:
            break
        kept.add(trial.number)
    return [trial for trial in trials if trial.number in kept or not trial.state.is_finished()]


class SteadySampler(BaseSampler):
    """Any sampler of Optuna, seeded anew for every draw, that sees no trials without parameters, such as baselines.

    After ten duplicates in a row it gives the first point that no trial has, or draws at random where a space has no
    list of points.

    Args:
        config: Says which.
        untried: Knows the points of a finite space.
        seen: Gives trials as they are to be learnt from.
    """

    def __init__(
        self, config: SamplerConfig, untried: UntriedPoints | None = None, seen: Seen = lambda trials: trials
    ) -> None:
        self.config, self.untried, self.seen = config, untried, seen
        self._patience = 0 if config.name == "grid" else _IN_VAIN
        self._relative: BaseSampler = RandomSampler()
        self._view: Study | None = None  # of the trial that is asked for; nothing else changes meanwhile
        self._asks = True  # whether a sampler is asked
        self._point: Mapping[str, Any] | None = None  # what is given where none is

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        before = study.get_trials(deepcopy=False)[: trial.number]
        duplicates = takewhile(lambda other: "twin" in other.user_attrs.get("end", ()), reversed(before))
        self._asks = len(list(islice(duplicates, self._patience))) < self._patience
        self._point = None if self._asks or self.untried is None else self.untried.first(before)
        self._view = self._shown(study)
        self._relative = self._sampler(trial)
        return self._relative.infer_relative_search_space(self._view, trial)

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        return self._relative.sample_relative(self._view or self._shown(study), trial, search_space)

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        if self._point is not None:
            return self._point[param_name]
        sampler = self._sampler(trial, param_name)
        return sampler.sample_independent(self._view or self._shown(study), trial, param_name, param_distribution)

    def _shown(self, study: Study) -> Study:
        """Show trials as they are to be learnt from, without what samplers cannot take.

        Baselines outside the space lack parameters that joint models need of every trial. With several objectives a
        trial that diverged has no values, and TPE would ask for the one direction of its curve.
        """
        several, most = len(study.directions) > 1, MOST_FINISHED.get(self.config.name)

        def visible(trial: FrozenTrial) -> bool:
            return not trial.user_attrs.get(OUTSIDE) and not (several and trial.state == TrialState.PRUNED)

        def learnt() -> list[FrozenTrial]:
            trials = [trial for trial in study.get_trials(deepcopy=False) if trial.state != TrialState.FAIL]
            return list(filter(visible, subsample_history(self.seen(trials), study.directions, most)))

        return showing(study, learnt)

    def _sampler(self, trial: FrozenTrial, name: str = "") -> BaseSampler:
        seed = draw_seed(self.config.seed, trial.number, name)
        return SAMPLERS[self.config.name if self._asks else "random"](self.config, seed)


def drive(ledger: Ledger, sweep: SweepConfig, untried: UntriedPoints | None, epochs: int) -> None:
    """Let a ledger ask the sampler and the pruner of its sweep; see ``SAMPLERS`` and ``PRUNERS``."""
    seen: Seen = ledger.by_rank if sweep.pairs else lambda trials: trials
    ledger.drive(SteadySampler(sweep.sampler, untried, seen), PRUNERS[sweep.pruner.name](sweep.pruner, epochs))


def refuse_pickles(sweep: SweepConfig, root: Path) -> None:
    """Refuse CMA-ES on a shared database: its state is a pickle, and whoever writes there runs code here.

    Raises:
        ConfigError: If the study is, or would be, in such a database.
    """
    if sweep.sampler.name == "cmaes" and is_shared(storage_url(root)):
        raise ConfigError("sampler.name: cmaes keeps pickled state in the study, refused on a shared database; use tpe")


def draw_seed(seed: int, number: int, name: str = "") -> int:
    """Mix (sweep seed, trial number, purpose) into 32 bits."""
    return int.from_bytes(hashlib.sha256(f"{seed}/{number}/{name}".encode()).digest()[:4], "big")
