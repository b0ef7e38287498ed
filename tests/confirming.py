"""What the tests of confirmations share: one that is driven by hand, and a sweep that was searched before it."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

from icd.results.confirm import make_plan
from icd.results.outcome import Outcome, PlannedArm
from icd.results.plan import Plan, begin_plan, stored_plans
from icd.results.read_outcome import outcome_of
from icd.search.controller.controller import SweepController
from icd.search.core.attempts import Attempt
from icd.search.core.records import State, TrialRecord
from icd.search.suggest.list_source import FixedRun, ListSource, measured
from tests.driving import EPOCHS, Hand

Measured = Callable[[str, int], float]  # arm and seed to top-1


def noise(seed: int) -> float:
    """Give what a seed adds to all arms, and a little of its own."""
    return (37 * seed % 11) / 10


def gaps(**gains: float) -> Measured:
    """Arms differ by constants and by a little noise; finalists are written ``trial_3``."""
    known = {label.replace("trial_", "trial ").replace("_", "-"): gain for label, gain in gains.items()}
    return lambda arm, seed: 50 + known.get(arm, 0.0) + noise(seed) + noise(seed + 7 * len(arm) + ord(arm[-1])) / 100


def level(arm: str, seed: int) -> float:
    """Give finalists that differ from baselines on every seed, and over three seeds not at all."""
    number = int(arm.rpartition(" ")[2]) + 1 if arm.startswith("trial") else 0
    return 50 + noise(seed) + (seed % 3 - 1) * number / 2


def close(arm: str, seed: int) -> float:
    """Trial 3 is ahead; what else was searched is level after three seeds, and gets no others."""
    return level(arm, seed) + (5.0 if arm == "trial 3" else 0.0)


def searched(root: Path, trials: int = 4, **changes: Any) -> Hand:
    """Search: the later a trial, the better."""
    changes = {"budget": {"trials": trials}, **changes}
    hand = Hand(root, **changes)
    while (attempt := hand.driver.next_attempt()) is not None:
        hand.epoch(attempt, EPOCHS, 50.0 + attempt.number, **{"val/loss": 2.0 - attempt.number / 10})
        hand.end(attempt)
    return hand


class Confirming(Hand):
    """A driver of a confirmation; ``asked`` is what ``make_plan`` takes, or nothing to go on with what was begun."""

    part = "test"

    def __init__(
        self,
        root: Path,
        *,
        anew: bool = False,
        keep_seeds: bool = False,
        asked: dict[str, Any] | None = None,
        **changes: Any,
    ) -> None:
        self.anew, self.keep_seeds, self.asked = anew, keep_seeds, asked
        super().__init__(root, **changes)

    def drive(self) -> SweepController:
        if self.asked is None and not self.anew:
            self.plan = stored_plans(self.ledger, "confirm")[-1]
        else:
            wanted = make_plan(self.ledger, self.sweep, **{"top": 2, "seeds": 5, **(self.asked or {})})
            self.plan = begin_plan(self.ledger, wanted, anew=self.anew, keep_seeds=self.keep_seeds)
        sweep = measured(self.sweep, self.plan.objective)
        self.ledger.drive()
        return self.driver_of(sweep, ListSource(self.plan, self.ledger, self.prepared))

    def again(self, **more: Any) -> "Confirming":
        self.close()
        return Confirming(self.root, **{**self.changes, **more})

    def record(self, attempt: Attempt) -> TrialRecord:
        return self.ledger.record(attempt.number)

    def run(self, attempt: Attempt, value: Measured) -> None:
        """Train a run, in one epoch."""
        attributes = self.record(attempt).attributes
        self.epoch(attempt, EPOCHS, value(attributes["arm"], attributes["seed"]))
        self.end(attempt)

    def finish_all(self, value: Measured, most: int = 1000) -> list[str]:
        """Train all that is left, or so many; names of the runs, in the order in which they were given."""
        names: list[str] = []
        while len(names) < most and (attempt := self.driver.next_attempt()) is not None:
            names.append(str(self.record(attempt).baseline))
            self.run(attempt, value)
        return names

    @property
    def runs(self) -> list[TrialRecord]:
        return self.ledger.records("confirm")

    @property
    def found(self) -> Outcome:
        found = outcome_of(self.ledger, "confirm")
        assert found is not None
        return found


def confirming(hand: Hand, **asked: Any) -> Confirming:
    """Begin a confirmation of what was searched."""
    hand.close()
    return Confirming(hand.root, asked=asked, **hand.changes)


def outcome(found: Outcome) -> Outcome:
    """Leave out what depends on the hour."""
    arms = tuple(replace(arm, runs=tuple(replace(run, seconds=0) for run in arm.runs)) for arm in found.arms)
    return replace(found, seconds=0, arms=arms)


def plan_of(finalists: int = 2, baselines: tuple[str, ...] = ("KD",), seeds: int = 5, **more: Any) -> Plan:
    """Give a plan without a study."""
    config = {"data": "digits100", "student": "resnet8", "method": "cross_entropy", "training": "digits100"}
    arms = [
        PlannedArm(label=f"trial {n}", kind="finalist", trial=n, search_value=60.0 - n, config={**config, "seed": 0})
        for n in range(finalists)
    ]
    arms += [PlannedArm(label=label, kind="baseline", config=config) for label in baselines]
    return Plan(stage="confirm", arms=tuple(arms), seeds=tuple(range(101, 101 + seeds)), **more)


class Ended(NamedTuple):
    records: list[TrialRecord]
    names: list[str]


def ended(plan: Plan, value: Measured, *, failed: Mapping[tuple[str, int], State] = MappingProxyType({})) -> Ended:
    """Give what is known once every run on a plan's list has ended, and the names of the runs in their order."""
    records: list[TrialRecord] = []
    while True:
        fresh = [run for run in plan.runs(records) if run.label not in {record.baseline for record in records}]
        if not fresh:
            return Ended(records, [str(record.baseline) for record in records])
        for run in fresh:
            records.append(record_of(run, len(records), value, failed.get((run.arm, run.seed), "complete")))


def record_of(run: FixedRun, number: int, value: Measured, state: State = "complete") -> TrialRecord:
    return TrialRecord(
        number=number,
        state=state,
        stage="confirm",
        values=(value(run.arm, run.seed),) if state == "complete" else (),
        baseline=run.label,
        attributes={"arm": run.arm, "seed": run.seed, "round": run.round}
        | ({"chance": 1.0} if state == "pruned" else {}),
    )
