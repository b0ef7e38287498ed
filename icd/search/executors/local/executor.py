"""Executor: plain processes on this machine, kept from trial to trial.

A process that is told to go (SIGTERM) lets its trial end its epoch and is then replaced.
"""

import itertools
import selectors
import signal
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from icd.errors import ConfigError, IcdError, Interrupted, Problem, SetupError
from icd.search.core.attempts import PREPARE_RETRIES, RETRIES, UNCLEAN, AttemptResult, EpochReport, Policy, ended
from icd.search.core.location import Location, is_quarantined
from icd.search.core.preparation import PreflightRequest, PreflightResult
from icd.search.executors.local.worker_process import (
    GRACE_S,
    Launch,
    WorkerProcess,
    cause_of_death,
    launch_python,
    oom_kills,
    wait,
)

_TICK_S = 0.2


class LocalExecutor:
    """Runs attempts in worker processes.

    Args:
        places: For each trial at a time the GPUs it may see, as CUDA_VISIBLE_DEVICES takes them; empty for none.
        logs: Folder for what workers print.
        threads: Of torch, for each trial.
        launch: How a worker is started.
    """

    name = "process"

    def __init__(
        self,
        places: Sequence[str],
        logs: Path,
        *,
        threads: int = 1,
        launch: Launch = launch_python,
    ) -> None:
        self.launch, self.threads = launch, threads
        self.slots = [
            WorkerProcess(index=index, gpu=gpu, log=logs / f"worker-{index}.log") for index, gpu in enumerate(places)
        ]
        self._host = socket.gethostname()
        self._fell_at: dict[int, Location] = {}  # by trial: where its last attempt had a fault
        self._selector = selectors.DefaultSelector()
        self._oom_seen = oom_kills()
        logs.mkdir(parents=True, exist_ok=True)

    def prepare(
        self, request: PreflightRequest, say: Callable[[str], None], stop: Callable[[], bool]
    ) -> PreflightResult:
        """Make ready in a worker; the others start meanwhile.

        Raises:
            SetupError: If the worker died again and again.
            IcdError: What ``run_preflight`` raised there.
            Interrupted: If ``stop`` said so.
        """
        for slot in self.slots:
            self._start(slot)
        slot, told, deaths = self.slots[0], False, 0
        slot.tell({"do": "prepare", "request": _plain(request)})
        while True:
            for heard, message in self._messages():
                if heard is not slot:
                    continue
                if message["said"] == "line":
                    say(message["text"])
                elif message["said"] == "prepared":
                    return PreflightResult(**message["prepared"])
                elif message["said"] == "refused":
                    raise refusal(message)
                elif message["said"] == "died":
                    deaths += 1
                    died = f"the worker died while preparing ({message['reason']}); see {slot.log}"
                    if deaths > PREPARE_RETRIES:
                        raise SetupError(died)
                    say(f"{died}; retry {deaths}/{PREPARE_RETRIES}")
                    self._start(slot)
                    slot.tell({"do": "prepare", "request": _plain(request)})
                    told = False
            if stop() and not told:
                slot.tell({"do": "stop"})
                told = True

    def run(self, policy: Policy, tick: Callable[[], None]) -> None:
        """Start what the policy gives and tell it what happens, until it is finished.

        Raises:
            SetupError: If every place is quarantined.
        """
        while not policy.done:
            self._give_new(policy)
            for slot, message in self._messages():
                self._heard(slot, message, policy)
            self._check_hangs(policy)
            if all(self._is_sick(slot, policy) for slot in self.slots):
                raise nowhere_left(policy)
            tick()

    def close(self) -> None:
        """End all workers: politely by closing their pipes, then by force."""
        for slot in self.slots:
            self._close_pipes(slot)
        deadline = time.monotonic() + GRACE_S
        while any(slot.running for slot in self.slots) and time.monotonic() < deadline:
            time.sleep(0.02)
        for slot in self.slots:
            slot.signal(signal.SIGKILL)
            wait(slot.child, GRACE_S)
        self._selector.close()

    def progress(self) -> Mapping[int, Mapping[str, int]]:
        """Epoch, step and steps of every trial under way."""
        return {slot.task.number: slot.where for slot in self.slots if slot.task is not None}

    # Giving

    def _give_new(self, policy: Policy) -> None:
        """Fill what is free; a trial goes not where it has just fallen, if there is a choice."""
        while free := [slot for slot in self.slots if slot.task is None and not self._is_sick(slot, policy)]:
            task = policy.next_attempt()
            if task is None:
                return
            slot = min(free, key=lambda slot: self._place(slot) == self._fell_at.get(task.number))
            if not slot.running:
                self._start(slot)
            slot.task, slot.heard, slot.where = task, time.monotonic(), {}
            slot.tell({"do": "attempt", "task": task.to_json()})

    def _place(self, slot: WorkerProcess) -> Location:
        return Location(host=self._host, gpu=slot.gpu)

    def _is_sick(self, slot: WorkerProcess, policy: Policy) -> bool:
        return is_quarantined(self._place(slot), policy.quarantined)

    # Hearing

    def _heard(self, slot: WorkerProcess, message: Mapping[str, Any], policy: Policy) -> None:
        said, task = message["said"], slot.task
        if task is None:
            return
        slot.heard = time.monotonic()
        if said == "died":
            self._ended(slot, ended(task, message["kind"], f"{message['reason']}; see {slot.log}"), policy)
        elif said == "alive":
            slot.where = {name: message[name] for name in ("epoch", "step", "steps")}
        elif said == "epoch":
            go = policy.on_epoch(replace(EpochReport(**message["epoch"]), location=self._place(slot)))
            slot.tell({"do": "answer", "number": task.number, "go": go})
        elif said == "outcome":
            self._ended(slot, AttemptResult(**message["outcome"]), policy)

    def _ended(self, slot: WorkerProcess, outcome: AttemptResult, policy: Policy) -> None:
        slot.task = None
        if outcome.kind in UNCLEAN or outcome.kind == "hang" or outcome.spent:
            self._kill(slot)
        if outcome.kind in RETRIES:
            self._fell_at[outcome.number] = self._place(slot)
        policy.on_finished(replace(outcome, location=self._place(slot)))

    def _check_hangs(self, policy: Policy) -> None:
        for slot in self.slots:
            task = slot.task
            if task is not None and time.monotonic() - slot.heard > task.hang_seconds:
                slot.signal(signal.SIGUSR1)  # writes its stacks to the log
                time.sleep(0.5)
                reason = f"no progress for {task.hang_seconds:.0f} s; stack in {slot.log}"
                self._ended(slot, ended(task, "hang", reason), policy)

    def _start(self, slot: WorkerProcess) -> None:
        self._close_pipes(slot)
        slot.start(self.launch, self.threads)
        self._selector.register(slot.events, selectors.EVENT_READ, slot)

    def _kill(self, slot: WorkerProcess) -> None:
        slot.signal(signal.SIGKILL)
        self._close_pipes(slot)
        slot.reap()

    def _close_pipes(self, slot: WorkerProcess) -> None:
        if slot.events >= 0:
            self._selector.unregister(slot.events)
        slot.close_pipes()

    def _messages(self) -> list[tuple[WorkerProcess, dict[str, Any]]]:
        """Wait a little for what workers say."""
        found: list[tuple[WorkerProcess, dict[str, Any]]] = []
        for key, _ in self._selector.select(_TICK_S):
            slot: WorkerProcess = key.data
            messages = slot.read()
            if messages is None:
                self._close_pipes(slot)
                kind, reason = cause_of_death(slot.reap(), self._oom_seen)
                self._oom_seen = oom_kills()
                messages = [{"said": "died", "kind": kind, "reason": reason}]
            found += zip(itertools.repeat(slot), messages, strict=False)
        return found


def nowhere_left(policy: Policy) -> SetupError:
    """Say that every place is quarantined, and why."""
    why = "; ".join(policy.quarantined.values())
    return SetupError(f"no place is left for a trial: {why}; check the machine (nvidia-smi) first")


def _plain(request: PreflightRequest) -> dict[str, Any]:
    return {item.name: getattr(request, item.name) for item in fields(request)}


def refusal(message: Mapping[str, Any]) -> IcdError:
    """Make the error again that a worker's preparation raised."""
    text = "\n".join(message["problems"])
    if message["code"] == Interrupted.code:
        return Interrupted(text)
    if message["code"] == ConfigError.code:
        pairs = zip(message["paths"], message["problems"], strict=True)
        return ConfigError([Problem(path=path, rule=rule) for path, rule in pairs])
    error = IcdError(text)
    error.code, error.exit_code = message["code"], message["exit_code"]  # type: ignore[misc]
    return error
