"""Between Tune and the policy where several trials share a process: a trial of Tune's is a process of up to R attempts.

Attempts join and leave it one by one; ``company.py`` says what becomes of them when it ends. A process begins with one
attempt in hand, so that none is started for nothing, and is given more once it has said where it is: the emptiest
first, and only where no further process fits. One that is empty for a while gives its place back.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn

from icd.search.company import HUNG, UNCLEAN, Company, UnderWay, ended
from icd.search.processes import nowhere_left
from icd.search.ray_bridge import notice_of, places_to_avoid
from icd.search.ray_cluster import Cluster, Handlers, processes_for
from icd.search.ray_deaths import Deaths
from icd.search.ray_demand import Demand
from icd.search.ray_mailbox import Post
from icd.search.ray_process import Process
from icd.search.ray_spot import Holding
from icd.search.task import Epoch, Outcome, OutcomeKind, Policy, Task

_LOOK_EVERY_S = 1.0
_IDLE_S = 5.0  # so long a process without attempts keeps its place
_STALLED_S = 10.0  # after so long without a look it was the driver that did not listen
_NOT_BEGUN = "not begun"


class PackBridge:
    """Carries what Tune and the processes say to the policy: every attempt ends exactly once, all on Tune's thread."""

    def __init__(
        self,
        policy: Policy,
        tick: Callable[[], None],
        cluster: Cluster,
        demand: Demand,
        company: Company,
        post: Post,
    ) -> None:
        self.policy, self.tick, self.cluster, self.demand = policy, tick, cluster, demand
        self.company, self.post = company, post
        self.processes: dict[str, Process] = {}
        self.holding = Holding(policy)
        self.failure: BaseException | None = None
        self._looked, self._begun = 0.0, 0
        self._deaths, self._handlers = Deaths(cluster), Handlers()

    def __reduce__(self) -> NoReturn:
        raise TypeError("the policy stays with its driver")

    def step(self, stop_trial: Callable[[str], None]) -> None:
        """Do what is due several times a second."""
        self._handlers.restore()  # Tune has just installed its own
        if self.failure is not None:
            raise self.failure
        self.tick()
        now = time.monotonic()
        if now - self._looked > max(_LOOK_EVERY_S, 0.02 * len(self.processes)):
            self._look_around(now)
        self._give_waiting()
        self._give_new()
        for process in self.processes.values():
            self._end_where_idle(process, now)
        if self.policy.stopping:
            for process in list(self.processes.values()):
                if not process.node:  # still waits for a place, and has nothing to save
                    stop_trial(process.name)

    def next(self, trial_id: str) -> dict[str, Any] | None:
        """Give what a new process is told, with a name, if it fits and there is a task for it."""
        # One that has nothing to do takes the task itself.
        if self._room() <= 0 or self._new_processes() <= 0 or self._deaths.resting:
            return None
        if any(not process.attempts for process in self._open()):
            return None
        task = self.policy.next()
        if task is None:
            return None
        process = self.processes[trial_id] = Process(name=trial_id, trials=self.cluster.pack)
        process.logs = Path(task.sweep) / "logs"
        self._seat(process, task)
        self._begun += 1
        avoid = places_to_avoid(self.policy)
        return {"name": f"process-{self._begun}", "mailbox": self.post.name, "reader": trial_id, "avoid": avoid}

    def progress(self) -> dict[int, Mapping[str, int]]:
        """Epoch, step and steps of every trial under way, as far as they are known."""
        return {number: seat.where for process in self.processes.values() for number, seat in process.attempts.items()}

    # Giving

    def _room(self) -> int:
        return self.cluster.places(len(self.holding)) - self._running()

    def _running(self) -> int:
        return sum(len(process.attempts) + (process.waiting is not None) for process in self.processes.values())

    def _new_processes(self) -> int:
        return self.cluster.processes(len(self.holding)) - len(self.processes)

    def _open(self) -> list[Process]:
        """The processes that another attempt could be given to now."""
        return [
            process
            for process in self.processes.values()
            if process.node and process.room and not self._is_sick(process)
        ]

    def _is_sick(self, process: Process) -> bool:
        return process.place in self.policy.quarantined

    def _give_new(self) -> None:
        """Fill processes that have nothing to do; where no further one can be started, all that have room."""
        while self._room() > 0:
            full = self._new_processes() <= 0
            free = [process for process in self._open() if full or not process.attempts]
            task = self.policy.next() if free else None
            if task is None:
                return
            process = self.company.choose(free, task, lambda process: process.place)
            if process.attempts and self.company.goes_alone(task):
                process.waiting = task
            else:
                self._give(process, task)

    def _give_waiting(self) -> None:
        """Start tasks that waited for their process to become empty, or hand them back where that is no use now."""
        for process in self.processes.values():
            task, useless = process.waiting, self.policy.stopping or process.leaving or self._is_sick(process)
            if task is None or (process.attempts and not useless):
                continue
            process.waiting = None
            if useless:
                self.policy.end(ended(task, "stopped", _NOT_BEGUN))
            else:
                self._give(process, task)

    def _give(self, process: Process, task: Task) -> None:
        self._seat(process, task)
        self.post.send(process.name, {"do": "attempt", "task": task.to_json()})

    def _seat(self, process: Process, task: Task) -> None:
        process.heard = time.monotonic()
        process.alone = self.company.goes_alone(task)
        process.attempts[task.number] = UnderWay(task, heard=process.heard)

    def _end_where_idle(self, process: Process, now: float) -> None:
        if process.attempts or process.waiting is not None:
            process.busy = now
        elif process.node and not process.ending:
            done = process.leaving or self._is_sick(process) or self.policy.stopping or self.policy.finished
            if done or now - process.busy > _IDLE_S:
                process.ending = process.leaving = True
                process.heard = now
                self.post.send(process.name, {"do": "end"})

    # Hearing

    def hear(self, trial_id: str, message: Mapping[str, Any]) -> bool:
        """Take what a process says; False stops Tune's trial."""
        if message["said"] == "holding":
            return self.holding.goes_on(trial_id)
        process = self.processes.get(trial_id)
        if process is None:
            return False
        process.heard = time.monotonic()
        if message["said"] in ("began", "refused"):
            process.locate(message)
            return self._began(process, refused=message["said"] == "refused")
        self.post.has_read(trial_id, message["read"])
        for said in message["messages"]:
            if said["said"] == "over":
                self.end(trial_id, "lost", reason="its process ended")
                return not said["again"]  # one that is not used again raises
            if process.spoilt is None:
                self._heard(process, said)
        return True

    def _began(self, process: Process, *, refused: bool) -> bool:
        """Let the first attempt run, or take it back where it came to a place that is quarantined, or too late."""
        place = process.place
        if not (refused or self._is_sick(process) or self.policy.stopping):
            for under_way in process.attempts.values():
                self.post.send(process.name, {"do": "attempt", "task": under_way.task.to_json()})
            return True
        why = _NOT_BEGUN if self.policy.stopping else f"{_NOT_BEGUN}: its place is quarantined"
        self.end(process.name, "stopped", reason=why)
        if refused and place is not None:
            self.holding.keep(process.name, place)
        return refused  # one that knew nothing of the quarantine is stopped; the next one there will know

    def _heard(self, process: Process, message: Mapping[str, Any]) -> None:
        said = message["said"]
        if said == "leaving":
            process.leaving = True
            return
        told = message.get(said, message)  # an epoch and an outcome hold number and attempt themselves
        under_way = process.attempts.get(told["number"])
        if under_way is None or told.get("attempt", under_way.task.attempt) != under_way.task.attempt:
            return
        under_way.heard = process.heard
        if said == "alive":
            under_way.where = {name: message[name] for name in ("epoch", "step", "steps")}
        elif said == "epoch":
            go = self.policy.epoch(replace(Epoch(**told), place=process.place))
            self.post.send(process.name, {"do": "answer", "number": told["number"], "go": go})
        elif said == "hang":
            self._spoil(process, ended(under_way.task, "hang", message["reason"]), HUNG)
        elif said == "outcome":
            self._ended(process, Outcome(**told))

    def _ended(self, process: Process, outcome: Outcome) -> None:
        if outcome.kind in UNCLEAN:
            self._spoil(process, outcome, UNCLEAN[outcome.kind])
            return
        del process.attempts[outcome.number]
        process.leaving = process.leaving or outcome.kind == "preempted"
        self.policy.end(replace(outcome, place=process.place))

    def _spoil(self, process: Process, outcome: Outcome, what: str) -> None:
        """Wait until it has ended itself: only then can its attempts be begun elsewhere."""
        process.spoilt, process.what, process.leaving = outcome, what, True

    # Processes that end

    def end(self, trial_id: str, kind: OutcomeKind, reason: str = "") -> None:
        """Take a process that is over off the list; attempts that it still has in hand end like that."""
        process = self._gone(trial_id)
        if process is not None:
            for task in process.emptied():
                self.policy.end(replace(ended(task, kind, reason), place=process.place))

    def fault(self, trial_id: str, text: str) -> None:
        """Find out why a process is gone, and tell the ends of its attempts."""
        process = self._gone(trial_id)
        if process is None:
            return
        outcomes, place = [], process.place
        if process.spoilt is None and process.attempts and (hung := process.hung()):
            # It could not say so: the attempt that was silent the longest is taken for the one that hung.
            task = min(process.attempts.values(), key=lambda under_way: under_way.heard).task
            self._spoil(process, ended(task, "hang", hung), HUNG)
        if process.spoilt is not None:
            outcomes = self.company.ended_by(process.emptied(), process.spoilt, process.what, place)
        elif process.attempts:
            outcomes = self.company.died(
                process.emptied(), *self._deaths.cause(process.node, process.host, process.pid, text), place
            )
        for outcome in outcomes:
            self.policy.end(outcome)

    def _gone(self, trial_id: str) -> Process | None:
        self.holding.forget(trial_id)
        process = self.processes.pop(trial_id, None)
        if process is None:
            return None
        self.post.forget(trial_id)
        process.forget_stack()
        if process.waiting is not None:
            self.policy.end(ended(process.waiting, "stopped", _NOT_BEGUN))
        return process

    def give_up(self, reason: str) -> None:
        """End what Tune left."""
        for trial_id in list(self.processes):
            self.end(trial_id, "lost", reason=reason)

    def _look_around(self, now: float) -> None:
        """Find processes that do not answer and nodes that go; ask for room, and for letters to be read."""
        if now - self._looked > _STALLED_S:
            for process in self.processes.values():
                process.heard = now
        self._looked, leaving = now, self.cluster.leaving()
        for process in self.processes.values():
            process.end_if_stuck(now)
            if process.node in leaving and not process.noticed:
                process.noticed = process.leaving = True
                reason, until = notice_of(process.host, process.node, leaving[process.node])
                self.post.send(process.name, {"do": "notice", "reason": reason, "until": until})
        self.post.repeat()
        trials = 0 if self.policy.stopping else self._running() + self.policy.left
        self.demand.ask(processes_for(trials, self.cluster.pack))
        if self.holding and not self.processes and not self.policy.finished and self._room() <= 0:
            raise nowhere_left(self.policy)
