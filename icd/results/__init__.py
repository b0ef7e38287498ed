"""From a study to a claim: the best trial, what pruning cost, and files that others can run.

A function here that imports its module late may not have its name: the module would then take its place.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from icd.results.exports.export import Exported, export
from icd.search.core.records import TrialRecord

if TYPE_CHECKING:
    from icd.results.ablation import Ablation
    from icd.results.confirmation import Confirmation

__all__ = ["Exported", "ablate_sweep", "best", "confirm_sweep", "export", "read_ablation", "read_confirmation"]


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
        **options: ``top``, ``seeds``, ``against``, ``train_on``, ``alpha``, ``adaptive``, ``failed_runs``, ``race``,
            ``anew`` and ``overrides`` as in ``icd.results.confirm.run_confirmation``; the rest as for
            ``icd.search.sweep``.
    """
    from icd.results.confirm import run_confirmation
    from icd.search import settings_of

    own = ("top", "seeds", "against", "train_on", "alpha", "adaptive", "failed_runs", "race", "anew", "overrides")
    asked = {key: options.pop(key) for key in own if key in options}
    return run_confirmation(name, settings_of(options), **asked)  # type: ignore[arg-type]


def read_confirmation(name: str, *, root: Path | str | None = None) -> "Confirmation | None":
    """Give what the last confirmation of a sweep shows so far; None where none was begun."""
    from icd.results.confirmation import confirmation_of
    from icd.search import root_of
    from icd.search.study.sweep_index import find

    return confirmation_of(find(root_of(root), name))


def ablate_sweep(name: str, **options: Any) -> "Ablation":
    """Leave out the parts of a sweep's best configuration, one at a time, on shared fresh seeds; see ``icd ablate``.

    Args:
        name: Of the sweep.
        **options: ``trial``, ``seeds``, ``failed_runs``, ``race``, ``anew`` and ``overrides`` as in
            ``icd.results.ablate.run_ablation``; the rest as for ``icd.search.sweep``.
    """
    from icd.results.ablate import run_ablation
    from icd.search import settings_of

    asked = {key: options.pop(key) for key in ("trial", "seeds", "failed_runs", "anew", "overrides") if key in options}
    return run_ablation(name, settings_of(options), **asked)  # type: ignore[arg-type]


def read_ablation(name: str, *, root: Path | str | None = None) -> "Ablation | None":
    """Give what the last ablation of a sweep shows so far; None where none was begun."""
    from icd.results.ablation import ablation_of
    from icd.search import root_of
    from icd.search.study.sweep_index import find

    return ablation_of(find(root_of(root), name))
