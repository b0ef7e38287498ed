"""What becomes of trials that share a process; both executors follow it.

Trials of one process share its fate. When it dies, all of them end with it; when one of them hangs, or leaves CUDA or
its memory in a state that nobody can trust, the process is ended and the others are ``lost``. All go on from their
checkpoints. So that one bad trial cannot take the same neighbours down again and again, a trial to which that has
happened twice (or once for want of memory, if it may have been the cause) goes on in a process of its own.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeVar

from icd.search.quarantine import Place
from icd.search.task import Outcome, OutcomeKind, Task

_ALONE_AFTER = 2  # deaths in company before a trial goes on alone
_NOBODYS = ("preempted", "lost")  # deaths for which no trial is to blame

# After these a process is not used again: an error of CUDA stays with it. What its other trials are told:
UNCLEAN: Mapping[str, str] = {"gpu": "had an error of CUDA", "memory": "ran out of memory"}
HUNG = "hung"


@dataclass(slots=True)
class UnderWay:
    """An attempt in a process's hands."""

    task: Task
    heard: float  # when it last made a step or was given
    where: Mapping[str, int] = field(default_factory=dict)


@dataclass(slots=True, kw_only=True)
class Seats:
    """The attempts of one process.

    Attributes:
        trials: Attempts that it may have at a time.
        attempts: Those it has, by trial number.
        alone: Whether the attempt it has is to stay the only one.
        waiting: A task that waits until it can have the process to itself; meanwhile nothing else is given.
        leaving: Whether the process takes nothing new; it ends with its last attempt.
    """

    trials: int = 1
    attempts: dict[int, UnderWay] = field(default_factory=dict)
    alone: bool = False
    waiting: Task | None = None
    leaving: bool = False

    @property
    def room(self) -> bool:
        """Whether another attempt can be given."""
        full = len(self.attempts) >= (1 if self.alone else self.trials)
        return not (full or self.leaving or self.waiting is not None)

    def emptied(self) -> list[Task]:
        """Take all attempts away; gives their tasks."""
        tasks = [under_way.task for under_way in self.attempts.values()]
        self.attempts.clear()
        return tasks


SomeSeats = TypeVar("SomeSeats", bound=Seats)


class Company:
    """Remembers which trials fell, where, and how often in company."""

    def __init__(self) -> None:
        self._fell_at: dict[int, Place | None] = {}  # by trial: where its last attempt had a fault
        self._fallen: Counter[int] = Counter()  # by trial: deaths in company

    def goes_alone(self, task: Task) -> bool:
        """Whether a trial is to have a process to itself."""
        return self._fallen[task.number] >= _ALONE_AFTER

    def choose(self, free: Iterable[SomeSeats], task: Task, place: Callable[[SomeSeats], Place | None]) -> SomeSeats:
        """Say where a task goes: not where it has just fallen if there is a choice, and the emptiest process first."""
        fell_at = self._fell_at.get(task.number)
        return min(free, key=lambda seats: (place(seats) == fell_at, len(seats.attempts)))

    def died(self, tasks: Sequence[Task], kind: OutcomeKind, reason: str, place: Place | None) -> list[Outcome]:
        """Say how trials ended whose process died; nobody knows because of which of them, if any."""
        for task in tasks:
            if len(tasks) > 1 and kind not in _NOBODYS:
                self._fallen[task.number] += _ALONE_AFTER if kind == "memory" else 1
            self._fell_at[task.number] = place
        return [replace(ended(task, kind, reason), place=place) for task in tasks]

    def ended_by(self, tasks: Sequence[Task], outcome: Outcome, what: str, place: Place | None) -> list[Outcome]:
        """Say how trials ended whose process was ended because of one of them; that one is the first."""
        self._fell_at[outcome.number] = place
        neighbours = [task for task in tasks if task.number != outcome.number]
        if neighbours:
            self._fallen[outcome.number] += _ALONE_AFTER if outcome.kind == "memory" else 1
        self._fallen.update(task.number for task in neighbours)
        reason = f"its neighbour, trial {outcome.number}, {what}"
        return [replace(outcome, place=place), *(ended(task, "lost", reason) for task in neighbours)]


def ended(task: Task, kind: OutcomeKind, reason: str) -> Outcome:
    """Give the end of an attempt that cannot tell it itself."""
    return Outcome(number=task.number, attempt=task.attempt, kind=kind, reason=reason)
