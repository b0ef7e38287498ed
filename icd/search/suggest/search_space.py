"""A sweep's search space, asked through Optuna's own ``suggest_*`` calls.

Categorical choices are labels, never tuples or numbers: a database gives tuples back as lists, and MLflow draws numbers
on an axis.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import optuna

from icd.config import walk
from icd.config.document import Document, dotted, in_order
from icd.config.names import canonical
from icd.config.ranges import MOST_VALUES, Choice, Interval
from icd.config.read_trial import read_trial
from icd.config.space import Stored, baseline_document, nodes_below, trial_document
from icd.config.sweep import Baseline, SweepConfig
from icd.config.trial import TrialConfig
from icd.config.walk import Dimension
from icd.errors import ConfigError, Problem, StateError
from icd.search.core.pair_runs import PairRun, pair_runs_of
from icd.search.core.records import TrialRecord
from icd.search.study.sweep_study import OUTSIDE
from icd.search.suggest.flat_row import FlatRow
from icd.search.suggest.params_of import params_of
from icd.teacher.cache_plan import NEEDED

_MANY_TRIALS = 1000  # that a sweep may make which only hours end


@dataclass(frozen=True, slots=True, kw_only=True)
class Start(Baseline):
    """A trial of another sweep as it is tried here; its label is ``OTHER trial 12``."""

    values: tuple[float, ...]  # what it reached there, one for each objective of that sweep
    params: Mapping[str, Any]  # the same in terms of this sweep's space; empty where the space cannot express it


class SearchSpace:
    """Asks for trials, rebuilds them from what the ledger holds, and lists what can be asked.

    Attributes:
        sweep: What is searched.
        starts: Trials of other sweeps, tried after the baselines.
        enqueued: Both.
    """

    def __init__(self, sweep: SweepConfig, starts: Sequence[Start] = ()) -> None:
        self.sweep, self.starts = sweep, tuple(starts)
        self.enqueued: Sequence[Baseline] = (*sweep.enqueue, *starts)
        self._row = FlatRow(sweep.template, self._configs(map(self.baseline, self.enqueued)))

    def suggest(self, trial: optuna.trial.BaseTrial) -> dict[str, Any]:
        """Ask a trial for everything that is not fixed and give the trial's plain document."""
        return trial_document(self.sweep.template, partial(_suggest, trial))

    def document(self, params: Mapping[str, Any]) -> dict[str, Any]:
        """Give the document that ``suggest`` gave when it was answered with these parameters.

        Raises:
            ConfigError: If a parameter is missing or outside the space.
        """
        return trial_document(self.sweep.template, Stored(params))

    def read(self, document: Mapping[str, Any]) -> TrialConfig:
        """Read a run's document; combinations that no corner showed may still be wrong."""
        return read_trial(self._document(document))

    def members(self, document: Mapping[str, Any] | Document) -> tuple[PairRun, ...]:
        """Read a trial's runs: one, or one for each of several pairs.

        Raises:
            ConfigError: With the problems of all pairs.
        """
        whole, configs, problems = self._document(document), dict[str, TrialConfig](), list[Problem]()
        for name, networks in ({pair.name: pair.networks for pair in self.sweep.pairs} or {"": {}}).items():
            try:
                configs[name] = read_trial(replace(whole, data={**whole.data, **networks}))
            except ConfigError as error:
                problems += error.problems
        if problems:
            raise ConfigError(in_order(problems))
        return pair_runs_of(configs)

    def _document(self, document: Mapping[str, Any] | Document) -> Document:
        return document if isinstance(document, Document) else Document({**document}, f"a trial of {self.sweep.name}")

    def baseline(self, baseline: Baseline) -> dict[str, Any]:
        """Give the document of a baseline, or of another sweep's trial as it is tried here."""
        if isinstance(baseline, Start) and baseline.params:
            return self.document(baseline.params)
        return baseline_document(self.sweep.template, baseline.changes, {})

    def requested(self, document: Mapping[str, Any]) -> dict[str, Any]:
        """Give the document of a trial that was asked for, with the images, plugins and pairs of the sweep."""
        template, pairs = self.sweep.template, ("teacher", "student") if self.sweep.pairs else ()
        own = {part: value for part, value in document.items() if part not in ("data", "plugins", *pairs)}
        return {part: template[part] for part in ("data", "plugins") if part in template} | own

    def tried(self, record: TrialRecord) -> dict[str, Any]:
        """Give the document of a trial of the ledger.

        Raises:
            ConfigError: If a parameter is missing or outside the space.
            StateError: For an enqueued configuration that the sweep no longer has.
        """
        if "document" in record.attributes:
            return self.requested(record.attributes["document"])
        label = record.baseline if record.baseline is not None else record.start
        if label is None:
            return self.document(record.params)
        for item in self.enqueued if record.baseline is not None else self.starts:
            if item.label == label:
                return self.baseline(item)
        raise StateError(f"{label!r}, which is trial {record.number}, is no longer in the sweep")

    def params(self, config: TrialConfig, hints: Mapping[str, Any]) -> dict[str, Any] | None:
        """Give the parameters that make a configuration, the first pair's of several; None outside the ranges."""
        networks = self.sweep.pairs[0].networks if self.sweep.pairs else {}
        return params_of({**self.sweep.template, **networks}, config, hints)

    def distributions(self, params: Mapping[str, Any]) -> dict[str, optuna.distributions.BaseDistribution]:
        """Give what parameters are drawn from, so that TPE and ``gp`` learn from a trial that they did not propose."""
        asked = optuna.trial.FixedTrial(dict(params))
        self.suggest(asked)
        return asked.distributions

    def size(self) -> int | None:
        """Count the configurations; None where a range has no step."""
        return walk.size(self.sweep.template)

    def trials(self) -> int | None:
        """Count what the budget or the points of the space allow; None where only hours end the sweep."""
        sweep, size = self.sweep, self.size()
        limits = [] if sweep.budget.trials is None else [sweep.budget.trials]
        if size is not None and (limits or sweep.sampler.name == "grid"):
            named = [self.members(self.baseline(item))[0].config for item in sweep.enqueue]
            outside = sum(self.params(config, {}) is None for config in named)
            limits.append(size + outside + sum(not start.params for start in self.starts))
        return max(min(limits), len(self.enqueued)) if limits else None

    def extent(self) -> dict[str, Any]:
        """Say how many trials lie between the extremes, and where, for the planner of teacher caches."""
        most, ranges = self.trials() or _MANY_TRIALS, dict[str, list[float]]()
        for place in nodes_below(self.sweep.template):
            name, node = dotted(place.path), place.node
            if isinstance(node, Interval) and name.startswith(NEEDED):
                values = node.values() if node.finite else (node.low, node.high)
                ranges.setdefault(name, []).extend(values[:most])
        return {"trials": most, "ranges": ranges}

    def points(self) -> Iterator[dict[str, Any]]:
        """Give the parameters of every configuration of a finite space, always in one order."""
        if self.size() is None:
            raise ConfigError(f"the space of {self.sweep.name} has ranges without a step, so it has no list of points")
        yield from walk.points(self.sweep.template)

    def untried(self) -> "UntriedPoints | None":
        """Follow which points are left; None where a range has no step, or points are more than a list may have."""
        return UntriedPoints(self) if (self.size() or MOST_VALUES + 1) <= MOST_VALUES else None

    def corners(self) -> list[dict[str, Any]]:
        """Give parameters in which every option and both ends of every range occur."""
        return walk.corners(self.sweep.template)

    def extremes(self) -> list[TrialConfig]:
        """Give the trials that whatever a trial needs can be told from: the corners and what is enqueued."""
        return self._configs([*map(self.document, self.corners()), *map(self.baseline, self.enqueued)])

    def dimensions(self) -> list[Dimension]:
        """List the parameters in the order in which they are asked."""
        return walk.dimensions(self.sweep.template)

    def row(self, *configs: TrialConfig) -> dict[str, str]:
        """Give what MLflow shows of a trial with these runs: the same keys for every trial of the sweep."""
        rows = [self._row.row(config) for config in configs]
        networks = {part: "+".join(dict.fromkeys(row[part] for row in rows)) for part in ("teacher", "student")}
        return {**rows[0], **networks}

    def _configs(self, documents: Iterable[Mapping[str, Any]]) -> list[TrialConfig]:
        return [run.config for document in documents for run in self.members(document)]


class UntriedPoints:
    """Knows which points of a finite space no trial of a study has.

    Points and trials are compared by their documents, since Optuna draws 0.30000000000000004 for a point of 0.3.
    """

    def __init__(self, space: SearchSpace) -> None:
        self._space, self._points = space, space.points()
        self._first = next(self._points, None)
        self._tried = set[str]()
        self._known = 0  # how many trials are counted

    def first(self, trials: Sequence[optuna.trial.FrozenTrial]) -> Mapping[str, Any] | None:
        """Give the first point in their order that is left, after all trials of the study; None for none."""
        new, self._known = trials[self._known :], len(trials)
        self._tried |= {self._text(trial.params) for trial in new if OUTSIDE not in trial.user_attrs}
        while self._first is not None and self._text(self._first) in self._tried:
            self._first = next(self._points, None)
        return self._first

    def _text(self, params: Mapping[str, Any]) -> str:
        return canonical(self._space.document(params))


def _suggest(trial: optuna.trial.BaseTrial, name: str, node: Choice | Interval) -> Any:
    if isinstance(node, Choice):
        return trial.suggest_categorical(name, list(node.labels))
    if node.integer:
        return trial.suggest_int(name, int(node.low), int(node.high), step=int(node.step or 1), log=node.log)
    return trial.suggest_float(name, node.low, node.high, step=node.step, log=node.log)
