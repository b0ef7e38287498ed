"""One Optuna study of a sweep: that of its search, or that of a list of runs that are trained beside it.

A list has a study of its own, ``NAME/confirm/1``, so that no sampler, pruner or dashboard meets its trials in the
search. A trial's number says which study it is in: those of the search begin at 0, those of a list at a multiple of
``LIST_NUMBERS``. So a number has one meaning in a sweep, and with it a folder and a run of MLflow.
"""

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC
from typing import Any, Protocol, TypeVar, get_args

from optuna.distributions import BaseDistribution
from optuna.storages import BaseStorage, get_storage
from optuna.trial import FrozenTrial, TrialState, create_trial

from icd.search.core.records import Stage, State, TrialRecord
from icd.search.study.write_through import WriteThroughStorage

LIST_NUMBERS = 100_000
_LISTS: Sequence[Stage] = [stage for stage in get_args(Stage) if stage != "search"]

OUTSIDE = "icd:outside"  # user attribute of enqueued configurations that the space cannot express
RETRY_OF = "retry_of"  # user attribute: the number of the failed trial in whose place this one stands

STATES: Mapping[State, TrialState] = {
    "complete": TrialState.COMPLETE,
    "pruned": TrialState.PRUNED,
    "failed": TrialState.FAIL,
    "duplicate": TrialState.FAIL,  # samplers look away from it, and its twin tells them the same
    "retried": TrialState.FAIL,  # never told: it is read off the trial that took its place
}
# Attributes that have a field of their own in a record.
_FIELDS = ("key", "baseline", "start", "control", "would_stop_at", "attempts", "reason", "twin")

T = TypeVar("T")


class Do(Protocol):
    """Does something idempotent with the database, again and again while it is away."""

    def __call__(self, act: Callable[[], T]) -> T: ...


class SweepStudy:
    """The trials of one study.

    Args:
        database: Where it is.
        name: Of the study; it must be there.
        do: How the database is used.
        list_number: 0 for the search, else see ``list_number``.
    """

    def __init__(self, database: BaseStorage, name: str, do: Do, list_number: int = 0) -> None:
        self.name, self.stage, self.first = name, stage_of(list_number), LIST_NUMBERS * list_number
        self._do, self._database = do, database
        self.storage: BaseStorage = get_storage(database)  # remembers finished trials
        self.study_id = do(lambda: int(self.storage.get_study_id_from_name(name)))

    def hold_in_memory(self) -> WriteThroughStorage:
        """Read everything once; from now on nobody else may write it."""
        memory = self._do(lambda: WriteThroughStorage(self._database, self.name))
        self.storage, self.study_id = memory, memory.study_id
        return memory

    def trials(self) -> list[FrozenTrial]:
        """Give all trials as Optuna has them; not to be changed."""
        return self._do(lambda: self.storage.get_all_trials(self.study_id, deepcopy=False))

    def trial(self, number: int) -> FrozenTrial:
        """Give one trial as Optuna has it; not to be changed."""
        return self._do(lambda: self.storage.get_trial(self.trial_id(number)))

    def trial_id(self, number: int) -> int:
        """Give the storage's own name of a trial."""
        return int(self.storage.get_trial_id_from_study_id_trial_number(self.study_id, number - self.first))

    def add(
        self, params: Mapping[str, Any], distributions: Mapping[str, BaseDistribution], attributes: Mapping[str, Any]
    ) -> int:
        """Make a trial, running, in one commit; its number."""
        template = create_trial(
            state=TrialState.RUNNING,
            params=dict(params),
            distributions=dict(distributions),
            user_attrs=dict(attributes),
        )
        trial_id = self.storage.create_new_trial(self.study_id, template_trial=template)
        return self.first + int(self.storage.get_trial_number_from_id(trial_id))

    def record(self, trial: FrozenTrial, rank: float | None = None, replaced_by: int | None = None) -> TrialRecord:
        """Give a trial as a plain value.

        Args:
            trial: One of this study.
            rank: Among the others.
            replaced_by: The trial that was made in its place.
        """
        attributes = {**trial.user_attrs, **trial.user_attrs.get("end", {})}
        attributes.pop("end", None)
        own = {name: attributes.pop(name) for name in _FIELDS if name in attributes}
        state: State = "running"
        if trial.state.is_finished():
            state = next(name for name, told in STATES.items() if told == trial.state)
            state = "duplicate" if trial.state == TrialState.FAIL and own.get("twin") is not None else state
        if replaced_by is not None:
            state, own["reason"] = "retried", f"{own.get('reason', '')}; tried again as trial {replaced_by}".strip("; ")
        moments = trial.datetime_start, trial.datetime_complete  # this machine's, without a zone
        started, ended = (at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ") if at else None for at in moments)
        return TrialRecord(
            number=self.first + trial.number,
            state=state,
            stage=self.stage,
            values=tuple(trial.values or ()) if trial.state == TrialState.COMPLETE else (),
            params=trial.params,
            curve=dict(sorted(trial.intermediate_values.items())),
            started=started,
            ended=ended,
            rank=rank,
            attributes={name: value for name, value in attributes.items() if not name.startswith("icd:")},
            **own,
        )


def replaced(trials: Sequence[FrozenTrial]) -> dict[int, int]:
    """Give, for each failed trial that was tried again, the number of the trial in its place."""
    return {trial.user_attrs[RETRY_OF]: trial.number for trial in trials if RETRY_OF in trial.user_attrs}


def list_number(stage: Stage, round_: int) -> int:
    """Count the lists of a sweep from 1: the first confirmation, the first ablation, the second confirmation ..."""
    return (round_ - 1) * len(_LISTS) + _LISTS.index(stage) + 1


def list_name(name: str, number: int) -> str:
    """Name the study of a list, by its sweep's name."""
    return f"{name}/{stage_of(number)}/{(number - 1) // len(_LISTS) + 1}"


def stage_of(number: int) -> Stage:
    """Say what a list is for; 0 stands for the search."""
    return _LISTS[(number - 1) % len(_LISTS)] if number else "search"
