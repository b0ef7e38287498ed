"""All that we use of Optuna and that its documentation does not promise, each with its reason.

``tests/unit/search/study/test_optuna_internals.py`` looks up every name of ``USES``, so that an Optuna that has
changed one of them fails there by its name.
"""

import copy
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

from optuna.study import Study
from optuna.trial import FrozenTrial

# Attribute of a study: why no public one will do.
USES: Mapping[str, str] = {
    "_get_trials": "samplers read a study's trials through it, and no setting of theirs hides any",
    "_storage": "samplers leave notes for other processes there, which a study with one writer need not keep",
}


def showing(study: Study, trials: Callable[[], list[FrozenTrial]], *, takes_notes: bool = True) -> Study:
    """Give a view of a study that shows other trials than its own.

    It asks for them only once, so it is for one draw, in which nothing changes.

    Args:
        study: The study.
        trials: Gives those that are shown.
        takes_notes: Whether what a sampler notes of a trial is kept.
    """
    view, known = copy.copy(study), cache(trials)

    def shown(deepcopy: bool = False, states: Any = None, use_cache: bool = False) -> list[FrozenTrial]:
        found = [trial for trial in known() if states is None or trial.state in states]
        return copy.deepcopy(found) if deepcopy else found

    vars(view).update(get_trials=shown, _get_trials=shown)
    if not takes_notes:
        vars(view).update(_storage=_TakesNoNotes())
    return view


class _TakesNoNotes:
    def set_trial_system_attr(self, trial_id: int, key: str, value: Any) -> None:
        pass
