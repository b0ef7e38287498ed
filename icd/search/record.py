"""What the ledger says of one trial, as a plain value: for the driver, the reading verbs and the results."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

# What a trial is for: ``search`` is the sweep itself; the others retrain chosen configurations on fresh seeds.
Stage = Literal["search", "confirm", "explain"]

# ``pruned`` holds stopped and diverged trials; ``failed`` faults; ``duplicate`` configurations that another trial has.
State = Literal["running", "complete", "pruned", "failed", "duplicate"]


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialRecord:
    """One trial of a study.

    Attributes:
        number: Counted from 0.
        state: See ``State``.
        stage: See ``Stage``.
        values: One for each objective, for complete trials.
        params: What it is in terms of the space; empty for enqueued configurations that lie outside it.
        curve: Value of the first objective's metric by epoch.
        key: Key of the configuration.
        baseline: Label of an enqueued configuration.
        start: Label of the other sweep's trial that it was taken from.
        control: Whether pruning is switched off for it.
        would_stop_at: Epoch at which the pruner would have stopped a control trial.
        attempts: How often it was started.
        reason: Why it ended otherwise than complete.
        twin: The trial with the same configuration, for duplicates.
        started: UTC time, ISO 8601.
        ended: The same, None while it runs.
        attributes: Everything else noted: digests, seconds, device, ...
    """

    number: int
    state: State
    stage: Stage = "search"
    values: Sequence[float] = ()
    params: Mapping[str, Any] = field(default_factory=dict)
    curve: Mapping[int, float] = field(default_factory=dict)
    key: str = ""
    baseline: str | None = None
    start: str | None = None
    control: bool = False
    would_stop_at: int | None = None
    attempts: int = 0
    reason: str = ""
    twin: int | None = None
    started: str | None = None
    ended: str | None = None
    attributes: Mapping[str, Any] = field(default_factory=dict)

    def to_data(self) -> dict[str, Any]:
        """Write it for JSON."""
        return asdict(self)


def best(records: Sequence[TrialRecord], *, maximize: bool) -> TrialRecord | None:
    """Give the best complete trial by the first objective; the earliest of equals."""
    complete = [record for record in records if record.state == "complete"]
    if not complete:
        return None
    sign = 1.0 if maximize else -1.0
    return max(complete, key=lambda record: (sign * record.values[0], -record.number))


def run_label(round_: int, arm: str, seed: int) -> str:
    """Name a run: of the first list ``KD seed 101``, of the second ``KD seed 106 (2)``."""
    return f"{arm} seed {seed}" + (f" ({round_})" if round_ > 1 else "")
