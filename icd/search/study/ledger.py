"""The ledger: one Optuna study that says what was tried and how it went. Only a driver writes it.

A trial's number and parameters are committed before anything else hears of them. Whatever happens to the driver, what
the study holds is enough to go on: finished trials stay, and running ones are issued again as they were.
"""

import copy
import logging
import math
from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import datetime
from functools import partial
from typing import Any, Literal, TypeVar, cast

import optuna
from optuna.distributions import BaseDistribution
from optuna.pruners import NopPruner
from optuna.storages import BaseStorage, get_storage
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, Trial, TrialState

from icd.config.sweep import Direction, RankName, SweepConfig
from icd.errors import StateError
from icd.search.core.ranks import ranks_of_trials
from icd.search.core.records import Stage, State, TrialRecord
from icd.search.study.database import patiently
from icd.search.study.write_through import WriteThroughStorage
from icd.search.suggest.samplers import OUTSIDE, RETRY_OF, in_search, is_searched, make_pruner, make_sampler, showing

logger = logging.getLogger(__name__)

_DIRECTIONS = {"maximize": StudyDirection.MAXIMIZE, "minimize": StudyDirection.MINIMIZE}
_STATES: Mapping[State, TrialState] = {
    "complete": TrialState.COMPLETE,
    "pruned": TrialState.PRUNED,
    "failed": TrialState.FAIL,
    "duplicate": TrialState.FAIL,  # samplers look away from it, and its twin tells them the same
    "retried": TrialState.FAIL,  # never told: it is read off the trial that took its place
}
# Attributes that have a field of their own in a record.
_FIELDS = ("stage", "key", "baseline", "start", "control", "would_stop_at", "attempts", "reason", "twin")

# What a trial that takes a failed one's place has of it.
_KEPT = ("stage", "key", "baseline", "start", "control", OUTSIDE)

RANKED = "ranked"  # attribute of a study whose trials are ranked over several pairs

T = TypeVar("T")
Suggest = Callable[[optuna.trial.BaseTrial], Mapping[str, Any]]


class Ledger:
    """A study, open for reading; with a sampler it can be driven."""

    def __init__(self, storage: BaseStorage, name: str, announce: Callable[[str], None] = logger.warning) -> None:
        self.name, self.announce = name, announce
        self.storage = get_storage(storage)  # remembers finished trials; a driver has its mirror for that
        self._database = storage
        self._mirror: WriteThroughStorage | None = None
        self._ranked: RankName | Literal[""] | None = None  # unknown until it is asked for
        with_none = optuna.samplers.RandomSampler(), NopPruner()
        self.study = self._do(lambda: optuna.load_study(study_name=name, storage=storage, sampler=with_none[0]))
        self.study.pruner = with_none[1]
        self.pruner: optuna.pruners.BasePruner = with_none[1]

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
            StateError: If there is a whole study of that name already.
        """
        directions = [_DIRECTIONS[objective.direction] for objective in sweep.objectives]
        try:
            study_id = storage.create_new_study(directions, sweep.name)
        except optuna.exceptions.DuplicatedStudyError:
            study_id = storage.get_study_id_from_name(sweep.name)
            if list(attributes)[-1] in storage.get_study_user_attrs(study_id):
                raise StateError(f"sweep {sweep.name!r} exists already") from None
        ranked = {RANKED: sweep.rank} if sweep.pairs else {}
        for name, value in {**ranked, **attributes}.items():
            storage.set_study_user_attr(study_id, name, value)
        return cls(storage, sweep.name, announce)

    @staticmethod
    def names(storage: BaseStorage) -> list[str]:
        """Names of all studies."""
        return [study.study_name for study in storage.get_all_studies()]

    def drive(self, sweep: SweepConfig, points: Sequence[Mapping[str, Any]], epochs: int, *, shared: bool) -> None:
        """Get ready to ask and to prune."""
        seen = self._by_rank if sweep.pairs else lambda trials: trials
        self.study.sampler = make_sampler(sweep.sampler, sweep.sampler.seed, points, shared_database=shared, seen=seen)
        self.pruner = make_pruner(sweep.pruner, epochs)
        mirror = self._mirror = self._do(lambda: WriteThroughStorage(self._database, self.study._study_id))
        self.storage = self.study._storage = cast(BaseStorage, mirror)

    # What is known

    @property
    def attributes(self) -> Mapping[str, Any]:
        """The study's own attributes."""
        return dict(self._do(lambda: self.storage.get_study_user_attrs(self.study._study_id)))

    def records(self, stage: Stage = "search") -> list[TrialRecord]:
        """Every trial of a stage."""
        found = [trial for trial in self._trials() if _stage(trial) == stage]
        ranks = self._ranks(found) if stage == "search" else {}  # on other lists runs differ in their seeds
        replaced = _replaced(found)
        return [_record(trial, ranks.get(trial.number), replaced.get(trial.number)) for trial in found]

    def record(self, number: int) -> TrialRecord:
        """One trial, without its rank among the others."""
        trial = self._trial(number)
        return _record(trial, None, _replaced(self._trials()).get(number) if trial.state == TrialState.FAIL else None)

    def frozen(self, numbers: Collection[int]) -> list[FrozenTrial]:
        """Trials as Optuna has them, for its own analyses; not to be changed."""
        return [trial for trial in self._trials() if trial.number in numbers]

    def finished(self, number: int) -> bool:
        """Whether a trial was told its end."""
        return self._trial(number).state.is_finished()

    @property
    def ranked(self) -> RankName | None:
        """How trials are ranked over several pairs; None where a trial has one run."""
        if self._ranked is None:
            self._ranked = self.attributes.get(RANKED, "")
        return self._ranked or None

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

    def _by_rank(self, trials: list[FrozenTrial]) -> list[FrozenTrial]:
        """Show a sampler each complete trial's rank among all that are complete now, in place of what was told."""
        ranks, sign = self._ranks(trials), -1.0 if self._direction == "maximize" else 1.0
        return [_valued(trial, sign * ranks[trial.number]) if trial.number in ranks else trial for trial in trials]

    # What a driver commits

    def note_study(self, **attributes: Any) -> None:
        """Set attributes of the study."""
        for name, value in attributes.items():
            self._do(partial(self.storage.set_study_user_attr, self.study._study_id, name, value))

    def note(self, number: int, **attributes: Any) -> None:
        """Set attributes of a trial; those that are set so already cost nothing."""
        trial = self._trial(number)
        for name, value in attributes.items():
            if name not in trial.user_attrs or trial.user_attrs[name] != value:
                self._do(partial(self.storage.set_trial_user_attr, trial._trial_id, name, value))

    def ask(self, suggest: Suggest, known: set[int]) -> tuple[int, Mapping[str, Any]]:
        """Make a trial and let the sampler fill it.

        Number and parameters are one commit. A running trial that the caller does not know is one whose ask was cut
        off after it; it is filled to its end instead of leaving a hole.

        Returns:
            Its number and what ``suggest`` made of it.
        """
        mirror = self._mirror
        if mirror is None:
            raise StateError(f"study {self.name!r} is open for reading only")

        def act() -> tuple[int, Mapping[str, Any]]:
            self.study._thread_local.cached_all_trials = None
            begun = [t for t in self._trials() if t.state == TrialState.RUNNING and is_searched(t)]
            begun = [t for t in begun if t.number not in known]
            if begun:
                return begun[0].number, suggest(Trial(self.study, begun[0]._trial_id))
            with mirror.draft() as draft:
                made = suggest(Trial(self.study, draft))
                return mirror.commit_draft(), made

        return self._do(act)

    def add_baseline(
        self,
        label: str,
        params: Mapping[str, Any],
        distributions: Mapping[str, BaseDistribution],
        attributes: Mapping[str, Any],
        kind: Literal["baseline", "start"] = "baseline",
    ) -> int:
        """Make the trial of an enqueued configuration, running, in one commit; its number.

        Args:
            label: Its name.
            params: What it is in terms of the space; empty where the space cannot express it.
            distributions: Of those parameters.
            attributes: Its attributes.
            kind: Whether it is named in comparisons, or a trial of another sweep.
        """
        stage = attributes.get("stage", "search")

        def act() -> int:
            same = (t.number for t in self._trials() if t.user_attrs.get(kind) == label and _stage(t) == stage)
            marks = {kind: label, **({} if params else {OUTSIDE: True}), **attributes}
            # What is there already was committed before the database went away.
            return self._add(marks, params, distributions, next(same, None))

        return self._do(act)

    def add_again(self, record: TrialRecord) -> int:
        """Make a trial, running, in place of one that failed, with its configuration and its label; its number."""
        failed = self._trial(record.number)
        marks = {name: failed.user_attrs[name] for name in _KEPT if name in failed.user_attrs}

        def act() -> int:
            place = _replaced(self._trials()).get(record.number)  # committed before the database went away
            return self._add({**marks, RETRY_OF: record.number}, failed.params, failed.distributions, place)

        return self._do(act)

    def _add(
        self,
        attributes: Mapping[str, Any],
        params: Mapping[str, Any],
        distributions: Mapping[str, BaseDistribution],
        known: int | None,
    ) -> int:
        if known is not None:
            return known
        template = FrozenTrial(
            number=-1,
            trial_id=-1,
            state=TrialState.RUNNING,
            value=None,
            datetime_start=datetime.now(),
            datetime_complete=None,
            params=dict(params),
            distributions=dict(distributions),
            user_attrs=dict(attributes),
            system_attrs={},
            intermediate_values={},
        )
        trial_id = self.storage.create_new_trial(self.study._study_id, template_trial=template)
        return int(self.storage.get_trial_number_from_id(trial_id))

    def add_epoch(self, number: int, epoch: int, value: float) -> None:
        """Commit an epoch's value; the same epoch again changes nothing."""
        trial = self._trial(number)
        if epoch in trial.intermediate_values or trial.state.is_finished():
            return
        if not math.isfinite(value):
            raise ValueError(f"value of trial {number}, epoch {epoch} must be finite, but got {value!r}")
        self._do(lambda: self.storage.set_trial_intermediate_value(trial._trial_id, epoch, value))

    def should_prune(self, number: int) -> bool:
        """Ask the pruner, which decides from committed values alone."""

        def act() -> bool:
            return self.pruner.prune(showing(self.study), in_search(self.study, self._trial(number)))

        return self._do(act)

    def place(self, number: int) -> int:
        """Count the trials of the search before one: its own number there."""
        return in_search(self.study, self._trial(number)).number

    def tell(self, number: int, state: State, values: Sequence[float] | None = None, **attributes: Any) -> None:
        """Commit a trial's end; a second end changes nothing.

        A pruned trial's value is that of its last epoch.
        """
        trial = self._trial(number)
        if trial.state.is_finished():
            return
        self.note(number, end=attributes)
        told = list(values) if values is not None else None
        if state == "pruned" and trial.intermediate_values and len(self.study.directions) == 1:
            told = [trial.intermediate_values[max(trial.intermediate_values)]]

        def act() -> None:
            stored = self.storage.get_trial(trial._trial_id)
            if not stored.state.is_finished():  # else it was committed before the database went away
                if is_searched(stored):
                    self.study.sampler.after_trial(self.study, stored, _STATES[state], told)
                self.storage.set_trial_state_values(trial._trial_id, _STATES[state], told)

        self._do(act)

    def _trials(self) -> list[FrozenTrial]:
        return self._do(lambda: self.storage.get_all_trials(self.study._study_id, deepcopy=False))

    def _trial(self, number: int) -> FrozenTrial:
        return self._trials()[number] if self._mirror is None else self._mirror.trial(number)

    def _do(self, act: Callable[[], T]) -> T:
        again = self._mirror.reload if self._mirror is not None else lambda: None
        try:
            return patiently(act, announce=self.announce, again=again)
        except optuna.exceptions.UpdateFinishedTrialError as error:
            raise StateError(f"another driver has ended a trial of sweep {self.name!r} meanwhile: {error}") from error


def _stage(trial: FrozenTrial) -> Stage:
    stage: Stage = trial.user_attrs.get("stage", "search")
    return stage


def _valued(trial: FrozenTrial, value: float) -> FrozenTrial:
    shown = copy.copy(trial)
    shown.values = [value]
    return shown


def _replaced(trials: Sequence[FrozenTrial]) -> dict[int, int]:
    """Give, for each failed trial that was tried again, the number of the trial in its place."""
    return {trial.user_attrs[RETRY_OF]: trial.number for trial in trials if RETRY_OF in trial.user_attrs}


def _record(trial: FrozenTrial, rank: float | None = None, replaced_by: int | None = None) -> TrialRecord:
    attributes = {**trial.user_attrs, **trial.user_attrs.get("end", {})}
    attributes.pop("end", None)
    own = {name: attributes.pop(name) for name in _FIELDS if name in attributes}
    state: State = "running"
    if trial.state.is_finished():
        state = next(name for name, told in _STATES.items() if told == trial.state)
        state = "duplicate" if trial.state == TrialState.FAIL and own.get("twin") is not None else state
    if replaced_by is not None:
        state, own["reason"] = "retried", f"{own.get('reason', '')}; tried again as trial {replaced_by}".strip("; ")
    return TrialRecord(
        number=trial.number,
        state=state,
        values=tuple(trial.values or ()) if trial.state == TrialState.COMPLETE else (),
        params=trial.params,
        curve=dict(sorted(trial.intermediate_values.items())),
        started=trial.datetime_start.isoformat(timespec="seconds") if trial.datetime_start else None,
        ended=trial.datetime_complete.isoformat(timespec="seconds") if trial.datetime_complete else None,
        rank=rank,
        attributes={name: value for name, value in attributes.items() if not name.startswith("icd:")},
        **own,
    )
