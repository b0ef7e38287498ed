"""Executor: plain processes on this machine, kept from trial to trial.

A process that is told to go (SIGTERM) lets its trial end its epoch and is then replaced.
"""

import socket
import time
from collections.abc import Callable, Mapping, Sequence
from multiprocessing.connection import wait as wait_for
from pathlib import Path

from icd.config.sweep import Resources
from icd.errors import SetupError
from icd.machine import oom_kills
from icd.search.controller.retry import RETRIES
from icd.search.core import messages
from icd.search.core.attempts import (
    PREPARE_RETRIES,
    AttemptResult,
    Location,
    Policy,
    ResultKind,
    is_quarantined,
)
from icd.search.core.preparation import PreflightRequest, PreflightResult
from icd.search.executors.attempt_tracker import AttemptTracker, nowhere_left
from icd.search.executors.local.worker_process import (
    GRACE_S,
    Launch,
    WorkerProcess,
    classify_exit,
    launch_python,
    wait,
)

_TICK_S = 0.2


class LocalExecutor:
    """Runs attempts in worker processes.

    Args:
        gpus: For each trial at a time the GPUs it may see, as CUDA_VISIBLE_DEVICES takes them; empty for none.
        logs: Folder for what workers print.
        threads: Of torch, for each trial.
        launch: How a worker is started.
    """

    def __init__(self, gpus: Sequence[str], logs: Path, *, threads: int = 1, launch: Launch = launch_python) -> None:
        self.launch, self.threads, host = launch, threads, socket.gethostname()
        self.workers = [
            WorkerProcess(log=logs / f"worker-{index}.log", location=Location(host=host, gpu=gpu))
            for index, gpu in enumerate(gpus)
        ]
        self._fell_at: dict[int, Location] = {}  # by trial: where its last attempt had a fault
        self._oom_seen = oom_kills()
        self._tracker: AttemptTracker | None = None
        logs.mkdir(parents=True, exist_ok=True)

    def start(self) -> None:
        """Start all workers."""
        for worker in self.workers:
            worker.start(self.launch, self.threads)

    def prepare(
        self, request: PreflightRequest, say: Callable[[str], None], stop: Callable[[], bool]
    ) -> PreflightResult:
        self.start()
        worker, told, deaths = self.workers[0], False, 0
        worker.send(messages.Prepare(request))
        while True:
            for heard, message in self._messages():
                if heard is not worker:
                    if message is None:  # it is started again when it is needed
                        heard.reap()
                    continue
                match message:
                    case messages.Line():
                        say(message.text)
                    case messages.Prepared():
                        return message.result
                    case messages.Refused():
                        raise message.error
                    case None:
                        told, deaths = False, deaths + 1
                        died = f"the worker died while preparing ({self._cause(worker)[1]}); see {worker.log}"
                        if deaths > PREPARE_RETRIES:
                            raise SetupError(died)
                        say(f"{died}; retry {deaths}/{PREPARE_RETRIES}")
                        worker.start(self.launch, self.threads)
                        worker.send(messages.Prepare(request))
            if stop() and not told:
                worker.send(messages.Order.STOP)
                told = True

    def run(self, policy: Policy, tick: Callable[[], None]) -> None:
        self._tracker = tracker = AttemptTracker(policy)
        while not policy.done:
            self._give(tracker)
            for worker, message in self._messages():
                self._hear(worker, message, tracker)
            for frozen in tracker.frozen():
                next(worker for worker in self.workers if worker.attempt == frozen.attempt.name).kill()
            if all(is_quarantined(worker.location, policy.quarantined) for worker in self.workers):
                raise nowhere_left(policy.quarantined)
            tick()

    def close(self) -> None:
        for worker in self.workers:
            worker.close_pipe()
        deadline = time.monotonic() + GRACE_S  # one for all
        for worker in self.workers:
            wait(worker.child, deadline - time.monotonic())
            worker.kill()
            worker.reap()

    def progress(self) -> Mapping[int, messages.Heartbeat]:
        return self._tracker.progress() if self._tracker is not None else {}

    def _give(self, tracker: AttemptTracker) -> None:
        """Fill what is free; a trial goes not where it has just fallen, if there is a choice."""
        quarantined = tracker.policy.quarantined
        while free := [
            worker for worker in self.workers if not worker.attempt and not is_quarantined(worker.location, quarantined)
        ]:
            attempt = tracker.policy.next_attempt()
            if attempt is None:
                return
            worker = min(free, key=lambda worker: worker.location == self._fell_at.get(attempt.number))
            if not worker.running:
                worker.start(self.launch, self.threads)
            worker.attempt = attempt.name
            tracker.begin(attempt, worker.location, worker.child.pid if worker.child else 0)
            worker.send(messages.Run(attempt))

    def _hear(self, worker: WorkerProcess, message: messages.Up | None, tracker: AttemptTracker) -> None:
        name = worker.attempt
        if message is None:
            kind, reason = self._cause(worker)
            worker.attempt = ""
            self._note(worker, tracker.died(name, lambda _: (kind, f"{reason}; see {worker.log}")))
            return
        if isinstance(message, messages.Finished):
            worker.attempt = ""
            self._note(worker, message.result)
            if message.result.unclean:
                worker.kill()
                worker.reap()
        go = tracker.hear(name, message)
        if isinstance(message, messages.EpochDone):
            worker.send(messages.Order.CONTINUE if go else messages.Order.STOP)

    def _note(self, worker: WorkerProcess, result: AttemptResult | None) -> None:
        if result is not None and result.kind in RETRIES:
            self._fell_at[result.number] = worker.location

    def _cause(self, worker: WorkerProcess) -> tuple[ResultKind, str]:
        """Say of what a process died."""
        cause = classify_exit(worker.reap(), self._oom_seen)
        self._oom_seen = oom_kills()
        return cause

    def _messages(self) -> list[tuple[WorkerProcess, messages.Up | None]]:
        """Wait a little for what workers say; None stands for the end of a process."""
        pipes = {worker.pipe: worker for worker in self.workers if worker.pipe is not None}
        return [(pipes[pipe], pipes[pipe].read()) for pipe in wait_for(list(pipes), _TICK_S)]  # type: ignore[index]


def partition_devices(resources: Resources, num_cpus: int, gpus: Sequence[str]) -> list[str]:
    """Divide the machine: for every trial at a time the GPU it may see, empty for none.

    Raises:
        SetupError: If not one trial fits.
    """
    wanted = resources.gpus_of_a_trial(bool(gpus))
    fitting = int(num_cpus / resources.cpus_per_trial + 1e-9)
    shares = [gpu for _ in range(int(1 / wanted + 1e-9)) for gpu in gpus] if wanted else [""] * fitting
    divided = shares[:fitting][: resources.max_concurrent]
    if not divided:
        raise SetupError(
            f"no trial fits: it needs {resources.cpus_per_trial:g} CPUs and {wanted:g} GPUs, "
            f"but this machine has {num_cpus} and {len(gpus)}; change resources"
        )
    return divided
