"""A process of several attempts as the driver knows it: where it is, what it has in hand, whether it still answers."""

import contextlib
import time
from dataclasses import dataclass, field
from pathlib import Path

from icd.search.company import Seats
from icd.search.ray_bridge import kill_here
from icd.search.ray_pack_worker import stack_file
from icd.search.ray_spot import Spot
from icd.search.task import Outcome

_LATE_S = 30.0  # so long after it should have ended itself, a process is killed from here


@dataclass(kw_only=True)
class Process(Seats, Spot):
    """A process of several attempts that Tune has.

    Attributes:
        name: Tune's of its trial.
        busy: When it last had an attempt.
        ending: Whether it was told that this is all.
        spoilt: An end after which it cannot be used; it ends itself.
        what: What the attempts beside that one are told.
        logs: Folder of the sweep.
    """

    name: str
    busy: float = field(default_factory=time.monotonic)
    ending: bool = False
    spoilt: Outcome | None = None
    what: str = ""
    logs: Path = Path()

    @property
    def stack(self) -> Path:
        """Where it writes its stacks when it hangs."""
        return stack_file(self.logs, self.host, self.pid)

    def hung(self) -> str:
        """Say how it hung, if it did and could not say so itself."""
        with contextlib.suppress(OSError):
            if self.stack.stat().st_size > 0:
                return f"{self.killed_for or 'no thread got on'}; stack in {self.stack}"
        return self.killed_for

    def forget_stack(self) -> None:
        """Remove the file for its stacks, if it wrote none."""
        with contextlib.suppress(OSError):
            if self.stack.stat().st_size == 0:
                self.stack.unlink()

    def end_if_stuck(self, now: float) -> None:
        """Kill it where it does not even end itself any more."""
        patience = min((under_way.task.hang_seconds for under_way in self.attempts.values()), default=0.0)
        expected = self.attempts or self.ending  # else it has nothing to say
        silent = now - self.heard
        if self.node and expected and not self.killed_for and silent > patience + _LATE_S:
            self.killed_for = f"no progress for {silent:.0f} s, its process does not answer"
            kill_here(self.host, self.pid)
