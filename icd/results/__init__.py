"""From a study to a claim: the best trial, what pruning cost, and files that others can run."""

from pathlib import Path

from icd.results.export import Exported, export
from icd.search.record import TrialRecord

__all__ = ["Exported", "best", "export"]


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
