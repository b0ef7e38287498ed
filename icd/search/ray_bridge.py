"""Between Tune and the policy: every attempt that Tune has ends exactly once, and why is read from what Ray says."""

import contextlib
import os
import signal
import socket
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any, NoReturn

from icd.errors import SetupError
from icd.search.processes import nowhere_left
from icd.search.quarantine import Place
from icd.search.ray_cluster import Cluster, restore_signals
from icd.search.ray_demand import Demand
from icd.search.ray_worker import UNCLEAN
from icd.search.slot import oom_kills
from icd.search.task import Epoch, Issued, Outcome, OutcomeKind, Policy, Task
from icd.search.whereabouts import AT_A_TIME, Lookout, find_stack, forget_files, give_notice

_TICK_S = 0.2
_LOOK_EVERY_S = 1.0
_LATE_S = 30.0  # so long after its own watchdog should have ended it, a worker is killed from here
_NODE_LOSS_S = 2.0  # how long a lost node may look alive
_MARGIN_S = 3.0  # before a node goes: for the last words of its trials
_TAKEN_BACK = ("node was preempted", "node was terminated expectedly")  # as Ray says of a node
_TOLD_TO_GO = "The process receives a SIGTERM"  # as Ray says of a worker that could not heed it
_OUT_OF_MEMORY = ("low on memory", "memory usage threshold", "OutOfMemoryError")


@dataclass(slots=True, kw_only=True)
class UnderWay:
    """An attempt that Tune has.

    Attributes:
        lookout: Reads where it is.
        node: Ray's name of the node it runs on; empty until it does.
        host: Of the process.
        pid: Of the process.
        gpu: The GPUs it was given.
        noticed: Whether it was told that its node is taken back.
        heard: When a message came or a step was seen.
        where: Epoch, step and steps.
        killed_for: Why we killed its process.
    """

    task: Task
    lookout: Lookout
    node: str = ""
    host: str = ""
    pid: int = 0
    gpu: str = ""
    noticed: bool = False
    heard: float = field(default_factory=time.monotonic)
    where: Mapping[str, int] = field(default_factory=dict)
    killed_for: str = ""

    @property
    def place(self) -> Place | None:
        """Where it runs; None until it does."""
        return Place(host=self.host, gpu=self.gpu, node=self.node) if self.node else None


class Bridge:
    """Carries what Tune says to the policy: every attempt ends exactly once, and all on Tune's thread."""

    def __init__(
        self,
        policy: Policy,
        tick: Callable[[], None],
        cluster: Cluster,
        demand: Demand,
        announce: Callable[[str], None],
    ) -> None:
        self.policy, self.tick, self.cluster, self.demand, self.announce = policy, tick, cluster, demand, announce
        self.running: dict[str, UnderWay] = {}
        self.holding: dict[str, Place] = {}  # Tune's trials that only keep a quarantined place from others
        self.failure: BaseException | None = None
        self._pool = ThreadPoolExecutor(AT_A_TIME, thread_name_prefix="progress")
        self._looked = 0.0
        self._oom_seen = oom_kills()
        self._handlers: dict[signal.Signals, Any] | None = {
            number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)
        }

    def __reduce__(self) -> NoReturn:
        raise TypeError("the policy stays with its driver")

    def close(self) -> None:
        """Read nothing more."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def step(self, stop_trial: Callable[[str], None]) -> None:
        """Do what is due several times a second."""
        if self._handlers is not None:  # Tune has just installed its own
            restore_signals(self._handlers)
            self._handlers = None
        if self.failure is not None:
            raise self.failure
        self.tick()
        now = time.monotonic()
        if now - self._looked > max(_LOOK_EVERY_S, 0.02 * len(self.running)):
            self._looked = now
            leaving = self.cluster.leaving()
            for under_way in self.running.values():
                self._look(under_way, now)
                if under_way.node in leaving and not under_way.noticed:
                    _give_notice(under_way, leaving[under_way.node])
            self.demand.ask(0 if self.policy.stopping else len(self.running) + self.policy.left)
            if self.holding and not self.running and not self.policy.finished and self._room() <= 0:
                raise nowhere_left(self.policy)
        if self.policy.stopping:
            for trial_id, under_way in list(self.running.items()):
                if not under_way.node:  # still waits for a place, and has nothing to save
                    stop_trial(trial_id)

    def next(self, trial_id: str) -> Task | None:
        """Give a task, if one fits and there is one."""
        if self._room() <= 0:
            return None
        task = self.policy.next()
        if task is not None:
            self.running[trial_id] = UnderWay(task=task, lookout=Lookout(task, self._pool))
        return task

    def _room(self) -> int:
        return self.cluster.places(len(self.holding)) - len(self.running)

    def hear(self, trial_id: str, message: Mapping[str, Any]) -> bool:
        """Take what a worker says; False stops the trial."""
        if message["said"] == "holding":
            return self._still_holds(trial_id)
        under_way = self.running.get(trial_id)
        if under_way is None:
            return bool(message["said"] == "outcome")  # let an unclean process end itself
        under_way.heard, said = time.monotonic(), str(message["said"])
        if said in ("began", "refused"):
            for name in ("node", "host", "pid", "gpu"):
                setattr(under_way, name, message[name])
            return self._began(trial_id, under_way, refused=said == "refused")
        if said == "epoch":
            go = self.policy.epoch(replace(Epoch(**message["epoch"]), place=under_way.place))
            return go or bool(message["last"])  # after the last epoch nothing is left to stop
        outcome = Outcome(**message["outcome"])
        self.end(trial_id, outcome.kind, outcome)
        return outcome.kind in UNCLEAN  # it will raise, and its process is not used again

    def _began(self, trial_id: str, under_way: UnderWay, *, refused: bool) -> bool:
        """Let an attempt run, or take it back where it came to a place that is quarantined."""
        place = under_way.place
        if place not in self.policy.quarantined and not refused:
            return True
        self.end(trial_id, "stopped", reason="not begun: its place is quarantined")
        if refused and place is not None:
            self.holding[trial_id] = place
        return refused  # one that knew nothing of the quarantine is stopped; the next one there will know

    def _still_holds(self, trial_id: str) -> bool:
        wanted = self.holding.get(trial_id) in self.policy.quarantined
        if not wanted or self.policy.finished or self.policy.stopping:
            self.holding.pop(trial_id, None)
            return False
        return True

    def end(self, trial_id: str, kind: OutcomeKind, outcome: Outcome | None = None, reason: str = "") -> None:
        """Tell the policy that an attempt has ended, if it has not been told."""
        self.holding.pop(trial_id, None)
        under_way = self.running.pop(trial_id, None)
        if under_way is not None:
            task = under_way.task
            with contextlib.suppress(OSError):
                forget_files(task)
            ended = outcome or Outcome(number=task.number, attempt=task.attempt, kind=kind, reason=reason)
            self.policy.end(replace(ended, place=under_way.place))

    def fault(self, trial_id: str, text: str) -> None:
        """Find out why a worker is gone."""
        under_way = self.running.get(trial_id)
        if under_way is not None:
            kind, reason = self._classify(under_way, text)
            self.end(trial_id, kind, reason=reason)

    def give_up(self, reason: str) -> None:
        """End what Tune left."""
        for trial_id in list(self.running):
            self.end(trial_id, "lost", reason=reason)

    def _classify(self, under_way: UnderWay, text: str) -> tuple[OutcomeKind, str]:
        """Read why a worker is gone in what Ray says, since Tune keeps no more than that."""
        stack = find_stack(under_way.task)
        if stack or under_way.killed_for:
            what = under_way.killed_for or f"no progress for {under_way.task.hang_seconds:.0f} s"
            return "hang", f"{what}; stack in {stack}" if stack else what
        if any(words in text for words in _TAKEN_BACK):
            return "preempted", f"node {under_way.host} ({under_way.node[:8]}) was taken back"
        if _TOLD_TO_GO in text:
            return "preempted", "SIGTERM: the process ended at once"
        if any(words in text for words in _OUT_OF_MEMORY):
            return "memory", f"killed for memory by Ray on {under_way.host or 'a node'}"
        if not text.startswith("The actor ") or "raised in its creation task" in text:
            return "error", last_line(text)  # Tune itself failed there, for instance without the shared folder
        if under_way.node and self._lost(under_way.node, text):
            return "lost", f"node {under_way.host} ({under_way.node[:8]}) lost"
        seen, self._oom_seen = self._oom_seen, oom_kills()
        if self.cluster.local and self._oom_seen > seen:
            return "memory", "process killed for memory by the kernel"
        return "killed", f"process killed ({_how_it_died(text)})"

    def _lost(self, node: str, text: str) -> bool:
        """Whether a node is gone; that of a worker may be heard a moment before."""
        if "node has died" in text or "node was terminated" in text or "node is dead" in text:
            return True
        deadline = time.monotonic() + (_NODE_LOSS_S if "unavailable" in text and not self.cluster.local else 0.0)
        while self.cluster.alive(node):
            if time.monotonic() >= deadline:
                return False
            time.sleep(_TICK_S)
        return True

    def _look(self, under_way: UnderWay, now: float) -> None:
        """Read which step a trial is at; end a process that is so stuck that its own watchdog cannot."""
        try:
            where = under_way.lookout.where(now - under_way.heard)
            if where and where != under_way.where:
                under_way.where, under_way.heard = where, now
        except SetupError:  # a bucket that is away says nothing of those who work
            under_way.heard = now
        silent = now - under_way.heard
        if under_way.node and not under_way.killed_for and silent > under_way.task.hang_seconds + _LATE_S:
            under_way.killed_for = f"no progress for {silent:.0f} s, its process does not answer"
            if under_way.host == socket.gethostname():
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.kill(under_way.pid, signal.SIGKILL)


def _give_notice(under_way: UnderWay, until: float) -> None:
    """Tell a worker that its node goes; a bucket that is away is tried again."""
    task, reason = under_way.task, f"node {under_way.host} ({under_way.node[:8]}) is taken back"
    with contextlib.suppress(OSError, SetupError):
        give_notice(task, Issued(task.attempt, reason, until - _MARGIN_S if until else 0.0))
        under_way.noticed = True


def last_line(error: object) -> str:
    """The line of Ray's text that names the exception below it."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1][:400] if lines else "Ray gave no reason"


def _how_it_died(text: str) -> str:
    """Ray does not know the signal; it says how the connection ended."""
    for line in text.splitlines():
        if "exit detail" in line or "exit code" in line:
            return line.split(".")[0].strip()[:200]
    return "its connection closed"
