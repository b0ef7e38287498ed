"""What the ledger says of one trial, as a plain value: for the driver, the reading verbs and the results."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from icd.config.sweep import Direction

# What a trial is for: ``search`` is the sweep itself; the others retrain chosen configurations on fresh seeds.
Stage = Literal["search", "confirm", "ablate", "race"]

# ``running`` is a trial that its sweep's driver has under way, or takes up first; where nobody drives the sweep, verbs
# call it ``interrupted``. ``pruned`` holds stopped and diverged trials; ``failed`` faults; ``duplicate`` configurations
# that another trial has; ``retried`` faults in whose place another trial was made (``icd resume --retry-failed``).
State = Literal["running", "interrupted", "complete", "pruned", "failed", "duplicate", "retried"]


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialRecord:
    """One trial of a study."""

    number: int  # counted from 0
    state: State
    stage: Stage = "search"
    values: Sequence[float] = ()  # one for each objective, for complete trials
    # what it is in terms of the space; empty for enqueued configurations that lie outside it
    params: Mapping[str, Any] = field(default_factory=dict)
    # value of the first objective's metric by epoch; at epoch 0 stands chance level, for samplers, where a loss was not
    # finite in the first epoch
    curve: Mapping[int, float] = field(default_factory=dict)
    key: str = ""  # of the configuration
    baseline: str | None = None  # label of an enqueued configuration
    start: str | None = None  # label of the other sweep's trial that it was taken from, or of what icd try asked for
    control: bool = False  # whether pruning is switched off for it
    would_stop_at: int | None = None  # epoch at which the pruner would have stopped a control trial
    attempts: int = 0  # how often it was started
    reason: str = ""  # why it ended otherwise than complete
    twin: int | None = None  # the trial with the same configuration, for duplicates
    started: str | None = None  # UTC time, ISO 8601
    ended: str | None = None  # the same, None while it runs
    # in a sweep over several pairs, the mean or worst rank of a complete trial over the pairs, among all complete
    # trials as they are now; 1 is best
    rank: float | None = None
    attributes: Mapping[str, Any] = field(default_factory=dict)  # what else is noted: digests, seconds and so on

    @property
    def unfinished(self) -> bool:
        """Whether it was not told its end."""
        return self.state in ("running", "interrupted")

    @property
    def counts(self) -> bool:
        """Whether it is one of the budget's trials: no other trial has its configuration."""
        return self.state not in ("duplicate", "retried")

    @property
    def epochs(self) -> int:
        """How many epochs it has told."""
        return max(self.curve, default=0)

    @property
    def last(self) -> float | None:
        """What was measured after its last epoch; None where no epoch ended."""
        return self.curve[self.epochs] if self.epochs else None

    @property
    def members(self) -> Mapping[str, float]:
        """Value of each pair; empty for a trial of one run."""
        found: Mapping[str, float] = self.attributes.get("members", {})
        return found


def interrupted(records: Sequence[TrialRecord]) -> list[TrialRecord]:
    """Call what is under way in a study by what it is where nobody drives the sweep."""
    return [replace(record, state="interrupted") if record.unfinished else record for record in records]


def failed_too_often(records: Sequence[TrialRecord], most: float) -> bool:
    """Whether a larger share than ``most`` of the trials that ended has failed."""
    ended = [record.state for record in records if record.counts and not record.unfinished]
    return ended.count("failed") > most * max(1, len(ended))


def in_order(records: Sequence[TrialRecord], *, maximize: bool) -> list[TrialRecord]:
    """Give the complete trials, best first by rank where there is one, then the first objective; then the earliest."""
    sign = -1.0 if maximize else 1.0
    complete = [record for record in records if record.state == "complete"]
    return sorted(complete, key=lambda record: (record.rank or 0.0, sign * record.values[0], record.number))


def best(records: Sequence[TrialRecord], *, maximize: bool) -> TrialRecord | None:
    """Give the first of the complete trials in order."""
    return next(iter(in_order(records, maximize=maximize)), None)


def chosen(
    records: Sequence[TrialRecord], *, states: Sequence[State] = (), top: int | None = None, maximize: bool = True
) -> list[TrialRecord]:
    """Choose trials by state, and the best few of the complete ones by the first objective."""
    found = [record for record in records if not states or record.state in states]
    return found if top is None else in_order(found, maximize=maximize)[:top]


def run_label(round_: int, arm: str, seed: int) -> str:
    """Name a run: of the first list ``KD seed 101``, of the second ``KD seed 106 (2)``."""
    return f"{arm} seed {seed}" + (f" ({round_})" if round_ > 1 else "")


def pareto_front(records: Sequence[TrialRecord], directions: Sequence[Direction]) -> list[TrialRecord]:
    """Give the complete trials that are not dominated, best first objective first.

    A trial dominates another if it is at least as good in every objective and better in one; of equal trials all stay.
    """
    complete = [record for record in records if record.state == "complete"]
    signs = [1.0 if direction == "maximize" else -1.0 for direction in directions]
    scores = {record.number: [s * v for s, v in zip(signs, record.values, strict=True)] for record in complete}

    def dominates(one: TrialRecord, other: TrialRecord) -> bool:
        ours, theirs = scores[one.number], scores[other.number]
        return ours != theirs and all(a >= b for a, b in zip(ours, theirs, strict=True))

    front = [record for record in complete if not any(dominates(other, record) for other in complete)]
    return sorted(front, key=lambda record: (-scores[record.number][0], record.number))
