"""Between workers and the policy, for both executors: every attempt that was given out ends exactly once."""

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace

from icd.errors import SetupError
from icd.search.core.attempts import Attempt, AttemptResult, Location, Policy, ResultKind, ended
from icd.search.core.messages import EpochDone, Finished, Heartbeat, Hung, Started, Up

LATE_S = 30.0  # so long after its own watchdog should have ended it, a worker is killed by its driver


@dataclass(slots=True, kw_only=True)
class RunningAttempt:
    """An attempt that a worker has."""

    attempt: Attempt
    location: Location | None = None  # where it runs; None until that is known
    pid: int = 0  # of its process; 0 until it is known
    progress: Heartbeat | None = None  # the last step that was told
    # when the worker last said something, or was given the attempt
    heard: float = field(default_factory=time.monotonic)
    hung: str = ""  # why it is taken to hang; empty where it is not


class AttemptTracker:
    """Carries what workers say to the policy, all on one thread.

    Attributes:
        running: By the attempt's name.
    """

    def __init__(self, policy: Policy) -> None:
        self.policy = policy
        self.running: dict[str, RunningAttempt] = {}

    def begin(self, attempt: Attempt, location: Location | None = None, pid: int = 0) -> None:
        """Take note that a worker is given an attempt, and where that is, as far as it is known."""
        self.running[attempt.name] = RunningAttempt(attempt=attempt, location=location, pid=pid)

    def hear(self, name: str, message: Up) -> bool:
        """Take what a worker says of an attempt; False stops that, also where it was given up before."""
        running = self.running.get(name)
        if running is None:
            return False
        running.heard = time.monotonic()
        match message:
            case Started():
                running.location, running.pid = message.location, message.pid
            case Heartbeat():
                running.progress = message
            case EpochDone():
                go = self.policy.on_epoch(replace(message.report, location=running.location))
                return go or message.last  # after the last epoch nothing is left to stop
            case Finished():
                self.end(name, message.result)
            case Hung():
                self._keep_stack(running, message.stack)
        return True

    def end(self, name: str, result: AttemptResult) -> None:
        """Tell the policy that an attempt has ended, if it has not been told."""
        running = self.running.pop(name, None)
        if running is not None:
            if not _has_content(running.attempt):  # its worker left it open
                running.attempt.stack.unlink(missing_ok=True)
            self.policy.on_finished(replace(result, location=running.location))

    def died(self, name: str, cause: Callable[[RunningAttempt], tuple[ResultKind, str]]) -> AttemptResult | None:
        """End an attempt whose worker is gone: one that hung has left its stack, of others ``cause`` says why."""
        running = self.running.get(name)
        if running is None:
            return None
        if not running.hung and _has_content(running.attempt):  # nothing but C code could run there
            self._keep_stack(running, "")
        result = ended(running.attempt, *(("hang", running.hung) if running.hung else cause(running)))
        self.end(name, result)
        return result

    def frozen(self) -> Iterator[RunningAttempt]:
        """Give once each attempt that is silent for so long that its worker's own watchdog must be stuck too."""
        now = time.monotonic()
        for running in self.running.values():
            silent = now - running.heard
            if running.pid and not running.hung and silent > running.attempt.hang_seconds + LATE_S:
                running.hung = f"no progress for {silent:.0f} s, its process does not answer"
                yield running

    def progress(self) -> dict[int, Heartbeat]:
        """Give the last step of every trial under way, as far as it is known."""
        return {run.attempt.number: run.progress for run in self.running.values() if run.progress is not None}

    def _keep_stack(self, running: RunningAttempt, stack: str) -> None:
        """Remember that a worker hung, and have its stack here where it ran on a machine with other files."""
        path = running.attempt.stack
        if stack and not _has_content(running.attempt):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(stack)
        running.hung = f"no progress for {running.attempt.hang_seconds:.0f} s; stack in {path}"


def _has_content(attempt: Attempt) -> bool:
    try:
        return attempt.stack.stat().st_size > 0
    except OSError:
        return False


def nowhere_left(quarantined: Mapping[Location, str]) -> SetupError:
    """Say that no location is left where a trial may run, and why."""
    return SetupError(
        f"no location is left for a trial: {'; '.join(quarantined.values())}; check the machine (nvidia-smi) first"
    )
