"""What MLflow shows of each arm as a run of its own; kept in the study, from which the runs are made."""

import math
from collections.abc import Sequence
from typing import Any, Protocol

from scipy.special import stdtrit

from icd.results.outcome import Arm
from icd.search.study.ledger import Ledger
from icd.search.tracking.sweep_views import ARMS


class Found(Protocol):
    """What a confirmation or an ablation found."""

    @property
    def round(self) -> int: ...

    @property
    def metric(self) -> str: ...

    @property
    def alpha(self) -> float: ...

    @property
    def arms(self) -> Sequence[Arm]: ...

    @property
    def statement(self) -> str: ...


def note_arms(ledger: Ledger, stage: str, found: Found, *, winner: str = "", test_evaluations: int = 0) -> None:
    """Keep mean, standard deviation, count and interval of each arm in the study."""
    arms = [_facts(arm, found.alpha) for arm in found.arms]
    said = {
        "metric": found.metric,
        "statement": found.statement,
        "winner": winner,
        "test_evaluations": test_evaluations,
        "arms": arms,
    }
    ledger.note_study(**{f"{ARMS}{stage}/{found.round}": said})


def _facts(arm: Arm, alpha: float) -> dict[str, Any]:
    """The interval is ``mean -+ t sd / sqrt(n)``, t of Student's distribution with n - 1 degrees of freedom."""
    count, low, high = len(arm.runs), None, None
    if arm.mean is not None and arm.sd is not None and count > 1:
        half = float(stdtrit(count - 1, 1 - alpha / 2)) * arm.sd / math.sqrt(count)
        low, high = arm.mean - half, arm.mean + half
    trials = [run.trial for run in arm.runs]
    return {"label": arm.label, "n": count, "mean": arm.mean, "sd": arm.sd, "low": low, "high": high, "trials": trials}
