"""From a study to a claim: the best trial, what pruning cost, and files that others can run.

A function here that imports its module late may not have its name: the module would then take its place.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from icd.results.exports.export import Exported, export
from icd.search.core.records import Stage, TrialRecord

if TYPE_CHECKING:
    from icd.results.outcome import Outcome

__all__ = ["Exported", "ablate_sweep", "best", "confirm_sweep", "export", "read"]


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


def confirm_sweep(name: str, **options: Any) -> "Outcome":
    """Retrain the best trials of a sweep and named baselines on fresh shared seeds, as ``icd confirm`` does.

    Args:
        name: Of the sweep.
        **options: Those of ``icd.results.confirm.make_plan`` and ``run_plan``, and those of ``icd.search.sweep``.
    """
    return _run("confirm", name, options)


def ablate_sweep(name: str, **options: Any) -> "Outcome":
    """Leave out the parts of a sweep's best configuration, one at a time, on shared fresh seeds; see ``icd ablate``.

    Args:
        name: Of the sweep.
        **options: Those of ``icd.results.ablate.make_plan`` and ``run_plan``, and those of ``icd.search.sweep``.
    """
    return _run("ablate", name, options)


def _run(stage: Stage, name: str, options: dict[str, Any]) -> "Outcome":
    from icd.results.run_plan import run_plan
    from icd.search import settings_of
    from icd.search.settings import Settings

    settings: Any = {key: options.pop(key) for key in options.keys() & Settings.__dataclass_fields__.keys()}
    return run_plan(stage, name, settings_of(settings), **options)


def read(name: str, stage: Stage, *, root: Path | str | None = None) -> "Outcome | None":
    """Give what the last finished confirmation (``confirm``) or ablation (``ablate``) shows, else the last one so far.

    None where none was begun.
    """
    from icd.results.read_outcome import outcome_of
    from icd.search import root_of
    from icd.search.study.sweep_index import find

    return outcome_of(find(root_of(root), name), stage)
