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
from icd.search.core.attempts import UNCLEAN, Attempt, AttemptClaim, AttemptResult, EpochReport, OutcomeKind, Policy
from icd.search.core.location import is_quarantined
from icd.search.executors.local.executor import nowhere_left
from icd.search.executors.ray.autoscaler import AutoscalerRequest
from icd.search.executors.ray.cluster import Cluster, Handlers
from icd.search.executors.ray.exit_reasons import Deaths
from icd.search.executors.ray.location import Holding, Spot
from icd.worker.progress_files import AT_A_TIME, Lookout, find_stack, forget_files, give_notice

_LOOK_EVERY_S = 1.0
_LATE_S = 30.0  # so long after its own watchdog should have ended it, a worker is killed from here
_MARGIN_S = 3.0  # before a node goes: for the last words of its trials


@dataclass(kw_only=True)
class UnderWay(Spot):
    """An attempt that Tune has, in a process of its own.

    Attributes:
        lookout: Reads where it is.
        where: EpochReport, step and steps.
    """

    task: Attempt
    lookout: Lookout
    where: Mapping[str, int] = field(default_factory=dict)


class TrialTracker:
    """Carries what Tune says to the policy: every attempt ends exactly once, and all on Tune's thread."""

    def __init__(
        self,
        policy: Policy,
        tick: Callable[[], None],
        cluster: Cluster,
        demand: AutoscalerRequest,
        announce: Callable[[str], None],
    ) -> None:
        self.policy, self.tick, self.cluster, self.demand, self.announce = policy, tick, cluster, demand, announce
        self.running: dict[str, UnderWay] = {}
        self.holding = Holding(policy)
        self.failure: BaseException | None = None
        self._pool = ThreadPoolExecutor(AT_A_TIME, thread_name_prefix="progress")
        self._looked = 0.0
        self._deaths, self._handlers = Deaths(cluster), Handlers()

    def __reduce__(self) -> NoReturn:
        raise TypeError("the policy stays with its driver")

    def close(self) -> None:
        """Read nothing more."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def step(self, stop_trial: Callable[[str], None]) -> None:
        """Do what is due several times a second."""
        self._handlers.restore()  # Tune has just installed its own
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
            if self.holding and not self.running and not self.policy.done and self._room() <= 0:
                raise nowhere_left(self.policy)
        if self.policy.stopping:
            for trial_id, under_way in list(self.running.items()):
                if not under_way.node:  # still waits for a place, and has nothing to save
                    stop_trial(trial_id)

    def next(self, trial_id: str) -> dict[str, Any] | None:
        """Give what a worker is told, with a name, if a trial fits and there is one."""
        if self._room() <= 0 or self._deaths.resting:
            return None
        task = self.policy.next_attempt()
        if task is None:
            return None
        self.running[trial_id] = UnderWay(task=task, lookout=Lookout(task, self._pool))
        name = f"{task.number:04d}-{task.attempt}"
        return {"name": name, "task": task.to_json(), "avoid": places_to_avoid(self.policy)}

    def progress(self) -> dict[int, Mapping[str, int]]:
        """Epoch, step and steps of every trial under way, as far as they are known."""
        return {under_way.task.number: under_way.where for under_way in self.running.values()}

    def _room(self) -> int:
        return self.cluster.places(len(self.holding)) - len(self.running)

    def hear(self, trial_id: str, message: Mapping[str, Any]) -> bool:
        """Take what a worker says; False stops the trial."""
        if message["said"] == "holding":
            return self.holding.goes_on(trial_id)
        under_way = self.running.get(trial_id)
        if under_way is None:
            return bool(message["said"] == "outcome")  # let an unclean process end itself
        under_way.heard, said = time.monotonic(), str(message["said"])
        if said in ("began", "refused"):
            under_way.locate(message)
            return self._began(trial_id, under_way, refused=said == "refused")
        if said == "epoch":
            go = self.policy.on_epoch(replace(EpochReport(**message["epoch"]), location=under_way.location))
            return go or bool(message["last"])  # after the last epoch nothing is left to stop
        outcome = AttemptResult(**message["outcome"])
        self.end(trial_id, outcome.kind, outcome)
        return outcome.kind in UNCLEAN or bool(outcome.spent)  # it will raise, and its process is not used again

    def _began(self, trial_id: str, under_way: UnderWay, *, refused: bool) -> bool:
        """Let an attempt run, or take it back where it came to a place that is quarantined."""
        place = under_way.location
        if not is_quarantined(place, self.policy.quarantined) and not refused:
            return True
        self.end(trial_id, "stopped", reason="not begun: its place is quarantined")
        if refused and place is not None:
            self.holding.keep(trial_id, place)
        return refused  # one that knew nothing of the quarantine is stopped; the next one there will know

    def end(self, trial_id: str, kind: OutcomeKind, outcome: AttemptResult | None = None, reason: str = "") -> None:
        """Tell the policy that an attempt has ended, if it has not been told."""
        self.holding.forget(trial_id)
        under_way = self.running.pop(trial_id, None)
        if under_way is not None:
            task = under_way.task
            with contextlib.suppress(OSError):
                forget_files(task)
            ended = outcome or AttemptResult(number=task.number, attempt=task.attempt, kind=kind, reason=reason)
            self.policy.on_finished(replace(ended, location=under_way.location))

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
        """Find out why a worker is gone: its watchdog leaves a stack, of the rest Ray says something."""
        stack = find_stack(under_way.task)
        if stack or under_way.killed_for:
            what = under_way.killed_for or f"no progress for {under_way.task.hang_seconds:.0f} s"
            return "hang", f"{what}; stack in {stack}" if stack else what
        return self._deaths.cause(under_way.node, under_way.host, under_way.pid, text)

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
            kill_here(under_way.host, under_way.pid)


def places_to_avoid(policy: Policy) -> list[list[str]]:
    """Give the quarantined places, each a node and its GPUs, as a worker that comes there knows itself."""
    return [[place.node, place.gpu] for place in policy.quarantined]


def kill_here(host: str, pid: int) -> None:
    """Kill a worker that does not answer, if it is on this machine; elsewhere its node has to find out."""
    if host == socket.gethostname():
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, signal.SIGKILL)


def _give_notice(under_way: UnderWay, until: float) -> None:
    """Tell a worker that its node goes; a bucket that is away is tried again."""
    with contextlib.suppress(OSError, SetupError):
        give_notice(
            under_way.task, AttemptClaim(under_way.task.attempt, *notice_of(under_way.host, under_way.node, until))
        )
        under_way.noticed = True


def notice_of(host: str, node: str, until: float) -> tuple[str, float]:
    """Say that a node goes, and until when its trials may go on: seconds since 1970; 0 for no limit."""
    return f"node {host} ({node[:8]}) is taken back", until - _MARGIN_S if until else 0.0
