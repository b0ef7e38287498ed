"""A driver's study in memory, written through to the database: nobody else writes it while the driver has its lock."""

import copy
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from optuna.distributions import BaseDistribution
from optuna.storages import BaseStorage, InMemoryStorage
from optuna.trial import FrozenTrial, TrialState

from icd.errors import StateError


class WriteThroughStorage(InMemoryStorage):
    """Optuna's storage in memory with one study; every write is committed to the database before it is kept here.

    Attributes:
        study_id: The study's id here; it has another one in the database.
    """

    def __init__(self, database: BaseStorage, name: str) -> None:
        self.database, self._name = database, name
        self._database_study = database.get_study_id_from_name(name)
        self.reload()

    def reload(self) -> None:
        """Read everything again: what was committed before the database went away is known then."""
        super().__init__()
        self._drafting = False
        self._marks: dict[str, Any] | None = None  # takes what is marked on a trial, in place of the database
        self._ids: list[int] = []  # of the trials in the database, by number
        self._distributions: dict[str, BaseDistribution] = {}
        database, study = self.database, self._database_study
        self.study_id = super().create_new_study(database.get_study_directions(study), self._name)
        for key, value in database.get_study_user_attrs(study).items():
            super().set_study_user_attr(self.study_id, key, value)
        for key, value in database.get_study_system_attrs(study).items():
            super().set_study_system_attr(self.study_id, key, value)
        for trial in database.get_all_trials(study, deepcopy=False):
            self._keep(trial)
            self._ids.append(database.get_trial_id_from_study_id_trial_number(study, trial.number))

    @contextmanager
    def draft(self) -> Iterator[None]:
        """Keep the trial that is made in this block in memory, and commit it whole at the block's end.

        Raises:
            StateError: If the database gave it another number, since it was drawn for this one.
        """
        self._drafting = True
        try:
            yield
            template = self.get_all_trials(self.study_id, deepcopy=False)[-1]
            self._commit(template)
            self._share_distributions(template)
            self._drafting = False
        except BaseException:
            self.reload()
            raise

    @contextmanager
    def marking(self) -> Iterator[dict[str, Any]]:
        """Take what is marked on a trial in this block, and keep it nowhere else."""
        self._marks = marks = dict[str, Any]()
        try:
            yield marks
        finally:
            self._marks = None

    def create_new_trial(self, study_id: int, template_trial: FrozenTrial | None = None) -> int:
        if self._drafting:
            return super().create_new_trial(study_id, template_trial)
        if template_trial is None:
            raise ValueError("a trial must be made as a draft, or whole from a template")
        self._commit(template_trial)
        return self._keep(template_trial)

    def set_study_user_attr(self, study_id: int, key: str, value: Any) -> None:
        self.database.set_study_user_attr(self._database_study, key, value)
        super().set_study_user_attr(study_id, key, _as_stored(value))

    def set_study_system_attr(self, study_id: int, key: str, value: Any) -> None:
        self.database.set_study_system_attr(self._database_study, key, value)
        super().set_study_system_attr(study_id, key, _as_stored(value))

    def set_trial_param(self, trial_id: int, name: str, internal: float, distribution: BaseDistribution) -> None:
        if not self._drafting:
            raise ValueError("the parameters of a trial are committed with it")
        super().set_trial_param(trial_id, name, internal, distribution)

    def set_trial_user_attr(self, trial_id: int, key: str, value: Any) -> None:
        if not self._drafting:
            self.database.set_trial_user_attr(self._database_id(trial_id), key, value)
        super().set_trial_user_attr(trial_id, key, _as_stored(value))

    def set_trial_system_attr(self, trial_id: int, key: str, value: Any) -> None:
        if self._marks is not None:
            self._marks[key] = value
            return
        if not self._drafting:
            self.database.set_trial_system_attr(self._database_id(trial_id), key, value)
        super().set_trial_system_attr(trial_id, key, _as_stored(value))

    def set_trial_intermediate_value(self, trial_id: int, step: int, value: float) -> None:
        self.database.set_trial_intermediate_value(self._database_id(trial_id), step, value)
        super().set_trial_intermediate_value(trial_id, step, value)

    def set_trial_state_values(self, trial_id: int, state: TrialState, values: Sequence[float] | None = None) -> bool:
        self.database.set_trial_state_values(self._database_id(trial_id), state, values)
        done = super().set_trial_state_values(trial_id, state, values)
        self.get_trial(trial_id).datetime_complete = self.database.get_trial(
            self._database_id(trial_id)
        ).datetime_complete
        return done

    def _database_id(self, trial_id: int) -> int:
        return self._ids[self.get_trial_number_from_id(trial_id)]

    def _commit(self, template: FrozenTrial) -> None:
        number = len(self._ids)
        self._ids.append(self.database.create_new_trial(self._database_study, template_trial=template))
        found = self.database.get_trial_number_from_id(self._ids[-1])
        if found != number:
            raise StateError(f"another process writes this study: trial {number} became {found}")

    def _keep(self, trial: FrozenTrial) -> int:
        bare = copy.copy(trial)
        bare.distributions = {}  # else each trial gets a copy of every one
        bare.user_attrs = _as_stored(trial.user_attrs)
        trial_id = super().create_new_trial(self.study_id, bare)
        kept = self.get_trial(trial_id)
        kept.distributions = dict(trial.distributions)
        self._share_distributions(kept)
        return trial_id

    def _share_distributions(self, trial: FrozenTrial) -> None:
        """Let equal distributions be one object in all trials: they are half of a trial's size."""
        known = self._distributions
        trial.distributions = {name: known.setdefault(repr(item), item) for name, item in trial.distributions.items()}


def _as_stored(value: Any) -> Any:
    """Give a value as it comes back from a database, which keeps it as JSON."""
    return json.loads(json.dumps(value))
