"""Trials that are not searched but listed: chosen configurations, each on seeds that all of them share."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from icd.config.sweep import Budget, Objective, PrunerConfig, SweepConfig
from icd.config.trial import TrialConfig
from icd.errors import StateError
from icd.search.core.pair_runs import PairRun, key_of, pair_runs_of
from icd.search.core.preparation import PreflightResult
from icd.search.core.records import Stage, TrialRecord, run_label
from icd.search.study.ledger import Ledger


@dataclass(frozen=True, slots=True, kw_only=True)
class FixedRun:
    """One trial of the list."""

    arm: str  # the configuration's label
    seed: int  # of the trial
    round: int  # which list of its stage it is on
    # what is trained: one configuration, named with nothing, or one for each pair by its name
    configs: Mapping[str, TrialConfig]

    @property
    def label(self) -> str:
        """Its name in the study, unique in its stage."""
        return run_label(self.round, self.arm, self.seed)


class Listed(Protocol):
    """A list of runs that may grow with what is known."""

    @property
    def stage(self) -> Stage: ...

    @property
    def round(self) -> int:
        """Which list of its stage it is, counted from 1."""
        ...

    @property
    def objective(self) -> Objective:
        """What is measured."""
        ...

    @property
    def configs(self) -> Sequence[TrialConfig]:
        """Every configuration that may be on the list."""
        ...

    def records(self, records: Sequence[TrialRecord]) -> Sequence[TrialRecord]:
        """Choose the runs that belong to it, those of earlier lists that it takes over too."""
        ...

    def runs(self, records: Sequence[TrialRecord]) -> Sequence[FixedRun]:
        """List what is to be trained, given what was: a function of the records alone."""
        ...

    def finished(self, records: Sequence[TrialRecord]) -> bool:
        """Whether nothing is left to train, given what was."""
        ...


class ListSource:
    """Gives the runs of a list; all that it knows can be read in the ledger again."""

    def __init__(self, listed: Listed, ledger: Ledger, prepared: PreflightResult) -> None:
        self.stage: Stage = listed.stage
        self.tried = 0
        self.exhausted = True  # nothing is ever asked of a sampler
        self._listed, self._ledger, self._prepared = listed, ledger, prepared
        self._numbers: dict[str, int] = {}
        self._runs: dict[str, FixedRun] = {}
        self._ended = -1

    def restore(self, record: TrialRecord) -> bool:
        if record.attributes["round"] != self._listed.round:
            if record.state == "running":
                reason = f"given up: list {self._listed.round} was begun"
                self._ledger.tell(record.number, "failed", reason=reason, exit_reason="given up")
            return False
        self._numbers[record.baseline or ""] = record.number
        self.tried += 1
        return True

    def enqueued_left(self) -> bool:
        return self._next() is not None

    def new_trials(self, room: Callable[[], bool]) -> Iterator[int]:
        while (run := self._next()) is not None:
            key = key_of(self._members(run))
            attributes = {"key": key, "control": True, "stage": self.stage, "arm": run.arm, "seed": run.seed}
            number = self._ledger.add_baseline(run.label, {}, {}, {**attributes, "round": run.round})
            self._numbers[run.label] = number
            self.tried += 1
            yield number

    def members(self, record: TrialRecord) -> tuple[PairRun, ...]:
        run = self._wanted().get(record.baseline or "")
        if run is None:
            raise StateError(f"trial {record.number} ({record.stage} {record.baseline}) is not on the list any more")
        return self._members(run)

    def _members(self, run: FixedRun) -> tuple[PairRun, ...]:
        return self._prepared.pinned(pair_runs_of(run.configs))

    def _next(self) -> FixedRun | None:
        return next((run for label, run in self._wanted().items() if label not in self._numbers), None)

    def _wanted(self) -> dict[str, FixedRun]:
        """The list as it stands; it changes only with a trial's end."""
        ended = sum(self._ledger.finished(number) for number in self._numbers.values())
        if ended != self._ended:
            listed = self._listed.runs(self._ledger.records(self.stage))
            self._runs |= {run.label: run for run in listed}
            self._ended = ended
        return self._runs


def measured(sweep: SweepConfig, objective: Objective) -> SweepConfig:
    """Give a sweep that measures one thing and ends by itself, for a list of runs."""
    return replace(sweep, objectives=(objective,), pruner=PrunerConfig(), budget=Budget(), enqueue=())
