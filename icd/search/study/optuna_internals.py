"""All that we use of Optuna and that its documentation does not promise, each with its reason.

``tests/unit/search/study/test_optuna_internals.py`` looks up every name of ``USES``, so that an Optuna that has
changed one of them fails there by its name.
"""

import copy
from collections.abc import Callable, Mapping
from typing import Any

from optuna.study import Study
from optuna.trial import FrozenTrial

# Attribute of a study: why no public one will do.
USES: Mapping[str, str] = {
    "_get_trials": "samplers read a study's trials through it, and no setting of theirs hides any",
    "_storage": "samplers leave notes for other processes there, which a study with one writer need not keep",
}

Get = Callable[[Any], list[FrozenTrial]]


def showing(study: Study, get: Get, *, takes_notes: bool = True) -> Study:
    """Give a view of a study that shows other trials than its own.

    It asks for each only once, so it is for one draw, in which nothing changes.

    Args:
        study: The study.
        get: Gives the trials in one of these states, or in any for None.
        takes_notes: Whether what a sampler notes of a trial is kept.
    """
    view = copy.copy(study)
    known: dict[str, list[FrozenTrial]] = {}  # by the states that were asked for

    def shown(deepcopy: bool = False, states: Any = None, use_cache: bool = False) -> list[FrozenTrial]:
        asked = repr(states)
        if asked not in known:
            known[asked] = get(states)
        return copy.deepcopy(known[asked]) if deepcopy else list(known[asked])

    vars(view).update(get_trials=shown, _get_trials=shown)
    if not takes_notes:
        vars(view).update(_storage=_TakesNoNotes())
    return view


class _TakesNoNotes:
    def set_trial_system_attr(self, trial_id: int, key: str, value: Any) -> None:
        pass
