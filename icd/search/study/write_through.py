"""A storage of Optuna that answers from memory: while a driver holds its lease nobody else writes its study.

What is written goes to the database first and is remembered after its commit. A new trial is drawn in memory and
committed whole, its number, parameters and the sampler's notes at once.
"""

import copy
import json
from collections.abc import Container, Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Any

from optuna.distributions import BaseDistribution
from optuna.storages import BaseStorage
from optuna.trial import FrozenTrial, TrialState

from icd.errors import StateError

_DRAFT = -1


class WriteThroughStorage:
    """One study's trials in memory, written through; what is not overridden here is the storage's own.

    Trials are replaced, never changed, as Optuna's samplers and pruners expect of a list they hold.
    """

    def __init__(self, storage: BaseStorage, study_id: int) -> None:
        self.storage, self._study_id = storage, study_id
        self._trials: list[FrozenTrial] = []
        self._distributions: dict[str, BaseDistribution] = {}
        self._place: dict[int, int] = {}
        self._draft: FrozenTrial | None = None
        self.reload()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.storage, name)

    def reload(self) -> None:
        """Read everything again: what was committed before the database went away is known then."""
        stored = self.storage.get_all_trials(self._study_id, deepcopy=False)
        copied = (copy.copy(trial) if trial.state.is_finished() else copy.deepcopy(trial) for trial in stored)
        self._trials = [self._shared(trial) for trial in copied]
        self._place = {trial._trial_id: place for place, trial in enumerate(self._trials)}

    @contextmanager
    def draft(self) -> Iterator[int]:
        """Give the id of a new trial in memory; forget it at the end unless it was committed."""
        self._draft = FrozenTrial(
            number=len(self._trials),
            trial_id=_DRAFT,
            state=TrialState.RUNNING,
            value=None,
            datetime_start=datetime.now(),
            datetime_complete=None,
            params={},
            distributions={},
            user_attrs={},
            system_attrs={},
            intermediate_values={},
        )
        try:
            yield _DRAFT
        finally:
            self._draft = None

    def commit_draft(self) -> int:
        """Commit the draft; its number.

        Raises:
            StateError: If the database gave it another number, since it was drawn for this one.
        """
        if self._draft is None:
            raise ValueError("there is no draft")
        trial = copy.copy(self._draft)
        trial._trial_id = self.storage.create_new_trial(self._study_id, template_trial=trial)
        number = self.storage.get_trial_number_from_id(trial._trial_id)
        if number != trial.number:
            raise StateError(f"another process writes this study: trial {trial.number} became {number}")
        self._add(trial)
        return int(number)

    def trial(self, number: int) -> FrozenTrial:
        """Give a trial by its number."""
        return self._trials[number]

    # Reading

    def get_all_trials(
        self, study_id: int, deepcopy: bool = True, states: Container[TrialState] | None = None
    ) -> list[FrozenTrial]:
        trials = [*self._trials, self._draft] if self._draft is not None else self._trials
        found = [trial for trial in trials if states is None or trial.state in states]
        return copy.deepcopy(found) if deepcopy else found

    def get_n_trials(self, study_id: int, state: Any = None) -> int:
        states = (state,) if isinstance(state, TrialState) else state
        return len(self.get_all_trials(study_id, False, states))

    def get_trial(self, trial_id: int) -> FrozenTrial:
        if trial_id == _DRAFT and self._draft is not None:
            return self._draft
        return self._trials[self._place[trial_id]]

    def get_trial_system_attrs(self, trial_id: int) -> dict[str, Any]:
        return self.get_trial(trial_id).system_attrs

    # Writing

    def create_new_trial(self, study_id: int, template_trial: FrozenTrial | None = None) -> int:
        trial_id = self.storage.create_new_trial(study_id, template_trial=template_trial)
        self._add(copy.deepcopy(self.storage.get_trial(trial_id)))
        return trial_id

    def set_trial_param(self, trial_id: int, name: str, internal: float, distribution: BaseDistribution) -> None:
        if trial_id != _DRAFT:
            self.storage.set_trial_param(trial_id, name, internal, distribution)
        trial = copy.copy(self.get_trial(trial_id))
        trial.params = {**trial.params, name: distribution.to_external_repr(internal)}
        trial.distributions = {**trial.distributions, name: distribution}
        self._put(trial)

    def set_trial_user_attr(self, trial_id: int, key: str, value: Any) -> None:
        if trial_id != _DRAFT:
            self.storage.set_trial_user_attr(trial_id, key, value)
        trial = copy.copy(self.get_trial(trial_id))
        trial.user_attrs = {**trial.user_attrs, key: json.loads(json.dumps(value))}
        self._put(trial)

    def set_trial_system_attr(self, trial_id: int, key: str, value: Any) -> None:
        if trial_id != _DRAFT:
            self.storage.set_trial_system_attr(trial_id, key, value)
        trial = copy.copy(self.get_trial(trial_id))
        trial.system_attrs = {**trial.system_attrs, key: json.loads(json.dumps(value))}
        self._put(trial)

    def set_trial_intermediate_value(self, trial_id: int, step: int, value: float) -> None:
        self.storage.set_trial_intermediate_value(trial_id, step, value)
        trial = copy.copy(self.get_trial(trial_id))
        trial.intermediate_values = {**trial.intermediate_values, step: value}
        self._put(trial)

    def set_trial_state_values(self, trial_id: int, state: TrialState, values: Any = None) -> bool:
        done = self.storage.set_trial_state_values(trial_id, state, values)
        self._put(self._shared(copy.deepcopy(self.storage.get_trial(trial_id))))
        return done

    def _shared(self, trial: FrozenTrial) -> FrozenTrial:
        """Let equal distributions be one object in all trials: they are half of a trial's size."""
        known = self._distributions
        trial.distributions = {name: known.setdefault(repr(item), item) for name, item in trial.distributions.items()}
        return trial

    def _add(self, trial: FrozenTrial) -> None:
        self._place[trial._trial_id] = len(self._trials)
        self._trials.append(self._shared(trial))

    def _put(self, trial: FrozenTrial) -> None:
        if trial._trial_id == _DRAFT:
            self._draft = trial
        else:
            self._trials[self._place[trial._trial_id]] = trial
