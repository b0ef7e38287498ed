"""From a study to a claim: the best trial, what pruning cost, and files that others can run.

A function here that imports its module late may not have its name: the module would then take its place.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from icd.results.export import Exported, export
from icd.search.core.records import TrialRecord

if TYPE_CHECKING:
    from icd.results.confirmation import Confirmation
    from icd.results.explained import Explanation

__all__ = ["Exported", "best", "confirm_sweep", "explain_sweep", "export", "read_confirmation", "read_explanation"]


def best(name: str, *, root: Path | str | None = None) -> TrialRecord:
    """Give the best complete trial of a sweep by its first objective.

    Raises:
        StateError: If there is no such sweep, or no trial of it ran all epochs.
    """
    from icd.errors import StateError
    from icd.search import status

    found = status(name, root=root).best
    if found is None:
        raise StateError(f"no trial of sweep {name!r} has run all its epochs yet")
    return found


def confirm_sweep(name: str, **options: Any) -> "Confirmation":
    """Retrain the best trials of a sweep and named baselines on fresh shared seeds; see ``icd confirm``.

    Args:
        name: Of the sweep.
        **options: ``top``, ``seeds``, ``against``, ``train_on``, ``alpha``, ``adaptive``, ``failed_runs``, ``anew`` and
            ``overrides`` as in ``icd.results.confirm.run_confirmation``; the rest as for ``icd.search.sweep``.
    """
    from icd.results.confirm import run_confirmation
    from icd.search import settings_of

    own = ("top", "seeds", "against", "train_on", "alpha", "adaptive", "failed_runs", "anew", "overrides")
    asked = {key: options.pop(key) for key in own if key in options}
    return run_confirmation(name, settings_of(options), **asked)  # type: ignore[arg-type]


def read_confirmation(name: str, *, root: Path | str | None = None) -> "Confirmation | None":
    """Give what the last confirmation of a sweep shows so far; None where none was begun."""
    from icd.results.confirmation import confirmation_of
    from icd.search import root_of
    from icd.search.study.sweep_index import find

    return confirmation_of(find(root_of(root), name))


def explain_sweep(name: str, **options: Any) -> "Explanation":
    """Leave out the parts of a sweep's best configuration, one at a time, on shared fresh seeds; see ``icd ablate``.

    Args:
        name: Of the sweep.
        **options: ``trial``, ``seeds``, ``failed_runs``, ``anew`` and ``overrides`` as in
            ``icd.results.parts.run_explanation``; the rest as for ``icd.search.sweep``.
    """
    from icd.results.parts import run_explanation
    from icd.search import settings_of

    asked = {key: options.pop(key) for key in ("trial", "seeds", "failed_runs", "anew", "overrides") if key in options}
    return run_explanation(name, settings_of(options), **asked)  # type: ignore[arg-type]


def read_explanation(name: str, *, root: Path | str | None = None) -> "Explanation | None":
    """Give what the last explanation of a sweep shows so far; None where none was begun."""
    from icd.results.explained import explanation_of
    from icd.search import root_of
    from icd.search.study.sweep_index import find

    return explanation_of(find(root_of(root), name))
