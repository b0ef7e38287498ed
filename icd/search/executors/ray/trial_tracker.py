"""Between Tune and the policy: what Tune's thread does for attempts, and where they may run."""

import contextlib
import os
import signal
import socket
import time
from collections.abc import Callable

from icd.search.core.attempts import Attempt, Location, Policy, ended, is_quarantined
from icd.search.core.messages import Down, Order, Preempt, Started, Up
from icd.search.executors.attempt_tracker import AttemptTracker, RunningAttempt, nowhere_left
from icd.search.executors.ray.cluster import Cluster
from icd.search.executors.ray.connection import restore_signals, signal_handlers
from icd.search.executors.ray.control import ControlOwner
from icd.search.executors.ray.exit_reasons import ExitClassifier

_LOOK_EVERY_S = 1.0
_MARGIN_S = 3.0  # before a node goes: for the last words of its trials


class TrialTracker(AttemptTracker):
    """An attempt is a trial of Tune's, which may also train nothing and hold a quarantined GPU: Ray leaves none out.

    Attributes:
        holding: Where such trials are, by the name of the attempt that came there.
    """

    def __init__(self, policy: Policy, tick: Callable[[], None], cluster: Cluster, control: ControlOwner) -> None:
        super().__init__(policy)
        self.tick, self.cluster, self.control = tick, cluster, control
        self.holding: dict[str, Location] = {}
        self.failure: BaseException | None = None
        self._orders: dict[str, Down | None] = {}
        self._looked = 0.0
        self._exits, self._handlers = ExitClassifier(cluster), signal_handlers()

    def step(self, stop_trial: Callable[[str], None]) -> None:
        """Do what is due several times a second."""
        restore_signals(self._handlers)  # Tune has just installed its own
        self._handlers = {}
        if self.failure is not None:
            raise self.failure
        self.tick()
        now = time.monotonic()
        if now - self._looked > max(_LOOK_EVERY_S, 0.02 * len(self.running)):
            self._looked = now
            self._look()
        if self.policy.stopping:
            for name, running in list(self.running.items()):
                if not running.pid:  # still waits for a place, and has nothing to save
                    stop_trial(name)

    def next(self) -> Attempt | None:
        """Give the next attempt, if there is one and a trial fits."""
        if self._room() <= 0 or self._exits.resting:
            return None
        attempt = self.policy.next_attempt()
        if attempt is not None:
            self.begin(attempt)
            self._give_orders()
        return attempt

    def hear(self, name: str, message: Up) -> bool:
        """Take what a worker says; False stops its trial of Tune's."""
        if name in self.holding:
            return self._holds_on(name)
        go = super().hear(name, message)
        if go and isinstance(message, Started) and is_quarantined(message.location, self.policy.quarantined):
            self.end(name, ended(self.running[name].attempt, "stopped", "not begun: its location is quarantined"))
            self.holding[name] = message.location
            self._give_orders(wait=True)
        return go

    def fault(self, name: str, text: str) -> None:
        """Find out from what Ray says why a worker is gone."""
        self.holding.pop(name, None)
        self._listen(wait=True)  # it may have said itself that it hung
        self.died(name, lambda running: self._exits.classify_exit(running.location, running.pid, text))

    def stopped(self, name: str, reason: str) -> None:
        """Take note that Tune has ended a trial."""
        self.holding.pop(name, None)
        if name in self.running:
            self.end(name, ended(self.running[name].attempt, "stopped", reason))

    def give_up(self, reason: str) -> None:
        """End what Tune left."""
        for name, running in list(self.running.items()):
            self.end(name, ended(running.attempt, "lost", reason))

    def _room(self) -> int:
        return self.cluster.capacity(len(self.holding)) - len(self.running)

    def _look(self) -> None:
        self._listen()
        self._give_orders()
        for running in self.frozen():
            _kill_here(running)
        if self.holding and not self.running and not self.policy.done and self._room() <= 0:
            raise nowhere_left(self.policy.quarantined)

    def _listen(self, *, wait: bool = False) -> None:
        for name, message in self.control.take(wait=wait):
            if name in self.running:
                super().hear(name, message)

    def _give_orders(self, *, wait: bool = False) -> None:
        """Say what each attempt is to do; a notice stands once it was given."""
        leaving = self.cluster.leaving() if self.running else {}
        before, self._orders = self._orders, dict.fromkeys(self.holding, Order.HOLD)
        for name, running in self.running.items():
            node = running.location.node if running.location is not None else ""
            self._orders[name] = before.get(name) or (notice_of(running, leaving[node]) if node in leaving else None)
        self.control.put(self._orders, wait=wait)

    def _holds_on(self, name: str) -> bool:
        """Whether a trial is to hold its GPU any longer."""
        wanted = is_quarantined(self.holding[name], self.policy.quarantined)
        if not wanted or self.policy.done or self.policy.stopping:
            del self.holding[name]
            return False
        return True


def notice_of(running: RunningAttempt, until: float) -> Preempt:
    """Say that a node goes, and until when its trials may go on: seconds since 1970; 0 for no limit."""
    host, node = (running.location.host, running.location.node) if running.location is not None else ("", "")
    return Preempt(f"node {host} ({node[:8]}) is taken back", until - _MARGIN_S if until else 0.0)


def _kill_here(running: RunningAttempt) -> None:
    """Kill a worker that does not answer, if it is on this machine; elsewhere its node has to find out."""
    if running.location is not None and running.location.host == socket.gethostname():
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(running.pid, signal.SIGKILL)
