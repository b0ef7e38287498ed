"""The ledger: a sweep's Optuna studies, which say what was tried and how it went. Only a driver writes them.

A trial's number and parameters are committed before anything else hears of them. Whatever happens to the driver, what
the studies hold is enough to go on: finished trials stay, and running ones are issued again as they were.

This file is longer than 300 lines because every commit of a sweep stands in it, and nowhere else.
"""

import contextlib
import copy
import logging
import math
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from typing import Any, Literal, TypeVar

import optuna
from optuna.distributions import BaseDistribution
from optuna.exceptions import DuplicatedStudyError
from optuna.pruners import BasePruner, NopPruner
from optuna.samplers import BaseSampler, RandomSampler
from optuna.storages import BaseStorage
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from icd.config.sweep import Direction, RankName, SweepConfig
from icd.errors import StateError
from icd.search.core.ranks import ranks_of_trials
from icd.search.core.records import Stage, State, TrialRecord
from icd.search.study.database import patiently
from icd.search.study.sweep_study import (
    LIST_NUMBERS,
    OUTSIDE,
    RETRY_OF,
    STATES,
    SweepStudy,
    list_name,
    list_number,
    replaced,
)
from icd.search.study.write_through import WriteThroughStorage

logger = logging.getLogger(__name__)

_DIRECTIONS = {"maximize": StudyDirection.MAXIMIZE, "minimize": StudyDirection.MINIMIZE}

# What a trial that takes a failed one's place has of it.
_KEPT = ("key", "baseline", "start", "control", "document", OUTSIDE)

FORMAT = 3  # of studies and folders; keys of 2 left out some fields, 1 had ranges under ``space``
_FORMAT_NAME = "icd:format"  # attribute of a search's study
RANKED = "ranked"  # attribute of a study whose trials are ranked over several pairs
_RUNGS = "icd:rungs"  # part of a verdict: the rungs that it marks

T = TypeVar("T")
Suggest = Callable[[optuna.trial.BaseTrial], Mapping[str, Any]]
Attributes = Callable[[int, Mapping[str, Any]], Mapping[str, Any]]


class Ledger:
    """A sweep's studies, open for reading; with a sampler they can be driven.

    Attributes:
        study: That of the search, as Optuna has it.
    """

    def __init__(self, storage: BaseStorage, name: str, announce: Callable[[str], None] = logger.warning) -> None:
        self.name, self.announce = name, announce
        self._database = storage
        self._memory: list[WriteThroughStorage] = []
        self.study = self._do(lambda: _load(name, storage, RandomSampler()))
        self._search = SweepStudy(storage, name, self._do)
        self._lists: dict[int, SweepStudy] = {}
        self.pruner: BasePruner = self.study.pruner
        self._rungs: dict[str, Any] = {}  # that the pruner has marked on a trial, and that are not committed yet

    @classmethod
    def create(
        cls,
        storage: BaseStorage,
        sweep: SweepConfig,
        attributes: Mapping[str, Any],
        announce: Callable[[str], None] = logger.warning,
    ) -> "Ledger":
        """Make the study of a sweep, or complete one that a killed driver began to make.

        Args:
            storage: The database.
            sweep: Name and objectives.
            attributes: The study's own; the last of them marks it whole.
            announce: Told when the database is away.

        Raises:
            StateError: If there is a whole study of that name already, or one of another program.
        """
        directions = [_DIRECTIONS[objective.direction] for objective in sweep.objectives]
        if sweep.name in _studies(storage):
            begun = storage.get_study_id_from_name(sweep.name)
            if list(attributes)[-1] in storage.get_study_user_attrs(begun):
                raise StateError(f"sweep {sweep.name!r} exists already")
            cls.refuse_foreign(storage, sweep.name)
            storage.delete_study(begun)  # it may have other objectives
        study_id = storage.create_new_study(directions, sweep.name)
        ranked = {RANKED: sweep.rank} if sweep.pairs else {}
        for name, value in {_FORMAT_NAME: FORMAT, **ranked, **attributes}.items():
            storage.set_study_user_attr(study_id, name, value)
        return cls(storage, sweep.name, announce)

    @staticmethod
    def names(storage: BaseStorage) -> list[str]:
        """Names of all sweeps."""
        return [name for name in _studies(storage) if "/" not in name]

    @staticmethod
    def refuse_earlier(storage: BaseStorage) -> None:
        """Refuse a database in which an earlier version of icd has made sweeps.

        Raises:
            StateError: If there is one.
        """
        made = {
            study.study_name: study.user_attrs for study in storage.get_all_studies() if "/" not in study.study_name
        }
        earlier = [name for name, own in made.items() if "digest" in own and own.get(_FORMAT_NAME) != FORMAT]
        if earlier:
            raise StateError(
                f"sweep {earlier[0]!r} was made by a version of icd with another format, which alone can read it; "
                "choose another --root"
            )

    @staticmethod
    def refuse_foreign(storage: BaseStorage, name: str) -> None:
        """Refuse to touch a study of another program, which is no sweep's, whole or begun.

        Raises:
            StateError: If there is one of that name.
        """
        if name not in _studies(storage):
            return
        study_id = storage.get_study_id_from_name(name)
        own = storage.get_study_user_attrs(study_id)
        begun = (_FORMAT_NAME in own or not own) and not storage.get_n_trials(study_id)  # a driver notes that first
        if "digest" not in own and not begun:
            rule = "is no sweep of icd, and is left as it is"
            raise StateError(f"the database's study {name!r} {rule}; choose another --name, or set ICD_STORAGE_URL")

    @staticmethod
    def remove(storage: BaseStorage, name: str) -> None:
        """Remove a sweep's studies, the search's last: without it the sweep would be found no more."""
        Ledger.refuse_foreign(storage, name)
        for study in sorted(_studies(storage), key=len, reverse=True):
            if study == name or study.startswith(f"{name}/"):
                storage.delete_study(storage.get_study_id_from_name(study))

    def drive(self, sampler: BaseSampler | None = None, pruner: BasePruner | None = None) -> None:
        """Hold the studies in memory, as nobody else writes them now; with a sampler trials can be asked for."""
        self._memory = [self._search.hold_in_memory()]
        self.study = _load(self.name, self._memory[0], sampler or RandomSampler())
        self.pruner, self._lists = pruner or NopPruner(), {}

    # What is known

    @property
    def attributes(self) -> Mapping[str, Any]:
        """The sweep's own attributes."""
        search = self._search
        found = self._do(lambda: search.storage.get_study_user_attrs(search.study_id))
        return {name: value for name, value in found.items() if name != _FORMAT_NAME}

    def records(self, stage: Stage = "search") -> list[TrialRecord]:
        """Every trial of the search, or of all lists for something else."""
        if stage != "search":
            return [item.record(trial) for item in self._lists_of(stage) for trial in item.trials()]
        found = self._search.trials()
        ranks, again = self._ranks(found), replaced(found)
        return [self._search.record(trial, ranks.get(trial.number), again.get(trial.number)) for trial in found]

    def record(self, number: int) -> TrialRecord:
        """One trial, without its rank among the others."""
        study = self._study_of(number)
        trial = study.trial(number)
        again = replaced(study.trials()) if trial.state == TrialState.FAIL else {}
        return study.record(trial, None, again.get(number))

    def frozen(self, numbers: Collection[int]) -> list[FrozenTrial]:
        """Trials of the search as Optuna has them, for its own analyses; not to be changed."""
        return [trial for trial in self._search.trials() if trial.number in numbers]

    def finished(self, number: int) -> bool:
        """Whether a trial was told its end."""
        return self._study_of(number).trial(number).state.is_finished()

    @property
    def ranked(self) -> RankName | None:
        """How trials are ranked over several pairs; None where a trial has one run."""
        found: RankName | None = self.attributes.get(RANKED)
        return found

    def _ranks(self, trials: Sequence[FrozenTrial]) -> dict[int, float]:
        """Rank the complete ones, by their numbers; nothing where a trial has one run."""
        if not self.ranked:
            return {}
        complete = [trial for trial in trials if trial.state == TrialState.COMPLETE]
        values = {trial.number: trial.user_attrs["end"]["members"] for trial in complete}
        return ranks_of_trials(values, self.ranked, self._direction)

    @property
    def _direction(self) -> Direction:
        return "maximize" if self.study.directions[0] == StudyDirection.MAXIMIZE else "minimize"

    def by_rank(self, trials: list[FrozenTrial]) -> list[FrozenTrial]:
        """Show each complete trial's rank among all that are complete now, in place of what was told."""
        ranks, sign = self._ranks(trials), -1.0 if self._direction == "maximize" else 1.0
        return [_valued(trial, sign * ranks[trial.number]) if trial.number in ranks else trial for trial in trials]

    # What a driver commits

    def note_study(self, **attributes: Any) -> None:
        """Set attributes of the sweep."""
        search = self._search
        for name, value in attributes.items():
            self._do(partial(search.storage.set_study_user_attr, search.study_id, name, value))

    def note(self, number: int, **attributes: Any) -> None:
        """Set attributes of a trial; those that are set so already cost nothing."""
        study = self._study_of(number)
        known = study.trial(number).user_attrs
        for name, value in attributes.items():
            if name not in known or known[name] != value:
                self._do(partial(study.storage.set_trial_user_attr, study.trial_id(number), name, value))

    def ask(self, suggest: Suggest, attributes: Attributes = lambda number, document: {}) -> int:
        """Make a trial and let the sampler fill it: number, parameters and attributes are one commit.

        Args:
            suggest: Asks for the parameters, and gives the document that they make.
            attributes: Gives the trial's attributes, by its number and that document.

        Returns:
            Its number.
        """
        if not self._memory:
            raise StateError(f"study {self.name!r} is open for reading only")
        number = len(self._search.trials())
        if number >= LIST_NUMBERS:
            raise StateError(f"sweep {self.name!r} has {number} trials, and more have no numbers; begin another sweep")

        def act() -> None:
            if len(self._search.trials()) > number:
                return  # it was committed before the database went away
            with self._memory[0].draft():
                trial = self.study.ask()
                for name, value in attributes(number, suggest(trial)).items():
                    trial.set_user_attr(name, value)

        self._do(act)
        return number

    def add_baseline(
        self,
        label: str,
        params: Mapping[str, Any],
        distributions: Mapping[str, BaseDistribution],
        attributes: Mapping[str, Any],
        kind: Literal["baseline", "start", "request"] = "baseline",
    ) -> int:
        """Make the trial of an enqueued configuration, running, in one commit; its number.

        Args:
            label: Its name.
            params: What it is in terms of the space; empty where the space cannot express it.
            distributions: Of those parameters.
            attributes: Its attributes.
            kind: Whether it is named in comparisons, a trial of another sweep, or asked for while the sweep goes on.
        """
        marks = {kind: label, **({} if params else {OUTSIDE: True}), **attributes}
        stage: Stage = marks.pop("stage", "search")
        study = self._search if stage == "search" else self._begin_list(list_number(stage, attributes["round"]))

        def act() -> int:
            # What is there already was committed before the database went away.
            same = (t.number for t in study.trials() if t.user_attrs.get(kind) == label)
            known = next(same, None)
            return study.add(params, distributions, marks) if known is None else study.first + known

        return self._do(act)

    def add_again(self, record: TrialRecord) -> int:
        """Make a trial, running, in place of one that failed, with its configuration and its label; its number."""
        failed = self._search.trial(record.number)
        marks = {name: failed.user_attrs[name] for name in _KEPT if name in failed.user_attrs}
        marks[RETRY_OF] = record.number

        def act() -> int:
            known = replaced(self._search.trials()).get(record.number)  # committed before the database went away
            return self._search.add(failed.params, failed.distributions, marks) if known is None else known

        return self._do(act)

    def add_epoch(self, number: int, epoch: int, value: float) -> None:
        """Commit an epoch's value; the same epoch again changes nothing."""
        study = self._study_of(number)
        trial = study.trial(number)
        if epoch in trial.intermediate_values or trial.state.is_finished():
            return
        if not math.isfinite(value):
            raise ValueError(f"value of trial {number}, epoch {epoch} must be finite, but got {value!r}")
        self._do(lambda: study.storage.set_trial_intermediate_value(study.trial_id(number), epoch, value))

    def should_prune(self, number: int) -> bool:
        """Ask the pruner, which decides from committed values alone.

        The rungs that it marks are never judged again, so they are committed with a verdict, or by ``judged``.
        """

        def act() -> bool:
            with self._memory[0].marking() as self._rungs:
                return self.pruner.prune(self.study, self._search.trial(number))

        return self._do(act)

    def judged(self, number: int) -> None:
        """Commit the rungs that the pruner has marked on a trial that goes on."""
        self._mark(number, self._rungs)
        self._rungs = {}

    def note_verdict(self, number: int, **end: Any) -> None:
        """Commit that a trial stops, with the rungs that say so; ``tell`` marks them, whoever drives by then."""
        self.note(number, end={**end, _RUNGS: self._rungs})
        self._rungs = {}

    def _mark(self, number: int, rungs: Mapping[str, Any]) -> None:
        search = self._search
        for name, value in rungs.items():
            self._do(partial(search.storage.set_trial_system_attr, search.trial_id(number), name, value))

    def tell(self, number: int, state: State, values: Sequence[float] | None = None, **attributes: Any) -> None:
        """Commit a trial's end; a second end changes nothing.

        A pruned trial's value is that of its last epoch. Its attributes are added to the verdict that was noted before,
        by a driver that was perhaps killed.
        """
        study = self._study_of(number)
        trial = study.trial(number)
        if trial.state.is_finished():
            return
        verdict = trial.user_attrs.get("end", {}) if state == "pruned" else {}
        self._mark(number, verdict.get(_RUNGS, {}))
        if attributes:
            self.note(number, end={**verdict, **attributes})
        told = list(values) if values is not None else None
        if state == "pruned" and trial.intermediate_values and (study.first or len(self.study.directions) == 1):
            told = [trial.intermediate_values[max(trial.intermediate_values)]]

        def act() -> None:
            if not study.trial(number).state.is_finished():  # else it was committed before the database went away
                study.storage.set_trial_state_values(study.trial_id(number), STATES[state], told)

        self._do(act)

    # Studies

    def _study_of(self, number: int) -> SweepStudy:
        """Give the study that a trial is in, by its number."""
        return self._open_list(number // LIST_NUMBERS) if number >= LIST_NUMBERS else self._search

    def _lists_of(self, stage: Stage) -> list[SweepStudy]:
        rounds = [
            name.rpartition("/")[2]
            for name in self._do(lambda: _studies(self._database))
            if name.startswith(f"{self.name}/{stage}/")
        ]
        return [self._open_list(list_number(stage, number)) for number in sorted(map(int, rounds))]

    def _begin_list(self, number: int) -> SweepStudy:
        """Open the study of a list, made if it is missing; what lists measure is better the larger it is."""
        name = list_name(self.name, number)
        if number not in self._lists and name not in self._do(lambda: _studies(self._database)):
            with contextlib.suppress(DuplicatedStudyError):  # made before the database went away
                self._do(lambda: self._database.create_new_study([StudyDirection.MAXIMIZE], name))
        return self._open_list(number)

    def _open_list(self, number: int) -> SweepStudy:
        if number not in self._lists:
            self._lists[number] = SweepStudy(self._database, list_name(self.name, number), self._do, number)
            if self._memory:
                self._memory.append(self._lists[number].hold_in_memory())
        return self._lists[number]

    def _do(self, act: Callable[[], T]) -> T:
        def again() -> None:
            for memory in self._memory:
                memory.reload()

        try:
            return patiently(act, announce=self.announce, again=again)
        except optuna.exceptions.UpdateFinishedTrialError as error:
            raise StateError(f"another driver has ended a trial of sweep {self.name!r} meanwhile: {error}") from error


def _load(name: str, storage: BaseStorage, sampler: BaseSampler) -> optuna.Study:
    """Open a study; it prunes nothing by itself."""
    return optuna.load_study(study_name=name, storage=storage, sampler=sampler, pruner=NopPruner())


def _studies(storage: BaseStorage) -> list[str]:
    return [study.study_name for study in storage.get_all_studies()]


def _valued(trial: FrozenTrial, value: float) -> FrozenTrial:
    shown = copy.copy(trial)
    shown.values = [value]
    return shown
