"""Executor: plain processes on this machine, one for each slot, kept from trial to trial."""

import contextlib
import json
import os
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from icd.config.sweep import Resources
from icd.errors import IcdError, Interrupted, SetupError
from icd.search.prepare import Preparation, Prepared
from icd.search.task import PREPARE_RETRIES, Epoch, Outcome, OutcomeKind, Policy, Task

_TICK_S = 0.2
_GRACE_S = 5.0
_SICK_AFTER = 2  # faults of one GPU before it is left alone
_LOG_BYTES = 10_000_000
MEMORY_EVENTS = Path("/sys/fs/cgroup/memory.events")  # of the control group, as Linux counts them


class Child(Protocol):
    """A started process."""

    pid: int

    def poll(self) -> int | None:
        """Exit code, or minus the signal; None while it runs."""
        ...


# Starts a worker with (read fd, write fd, environment changes, log file).
Launch = Callable[[int, int, Mapping[str, str], Path], Child]


def launch_python(commands: int, events: int, environment: Mapping[str, str], log: Path) -> Child:
    """Start a fresh interpreter in a session of its own, so that Ctrl-C reaches the driver alone."""
    with log.open("ab") as file:
        return subprocess.Popen(
            [sys.executable, "-m", "icd.search.worker", str(commands), str(events)],
            pass_fds=(commands, events),
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=file,
            env={**os.environ, **environment},
            start_new_session=True,
        )


def visible_gpus() -> list[str]:
    """Name the GPUs of this machine that may be used, without starting CUDA here."""
    if "CUDA_VISIBLE_DEVICES" in os.environ:
        return [name for name in os.environ["CUDA_VISIBLE_DEVICES"].split(",") if name]
    return [str(place) for place, _ in enumerate(sorted(Path("/proc/driver/nvidia/gpus").glob("*")))]


def places_for(resources: Resources, num_cpus: int, gpus: Sequence[str]) -> list[str]:
    """Divide the machine: for every trial at a time the GPUs it may see, empty for none.

    Raises:
        SetupError: If not one trial fits.
    """
    wanted = resources.gpus_per_trial if resources.gpus_per_trial is not None else float(bool(gpus))
    fitting = int(num_cpus / resources.cpus_per_trial)
    if wanted == 0:
        places = [""] * fitting
    elif wanted < 1:
        places = [gpu for _ in range(int(1 / wanted + 1e-9)) for gpu in gpus]
    else:
        size = int(wanted)
        groups = zip(*(gpus[start::size] for start in range(size)), strict=False)
        places = [",".join(group) for group in groups]
    places = places[: min(fitting, resources.max_concurrent or fitting)]
    if not places:
        raise SetupError(
            f"no trial fits: it needs {resources.cpus_per_trial:g} CPUs and {wanted:g} GPUs, "
            f"but this machine has {num_cpus} and {len(gpus)}; change resources"
        )
    return places


@dataclass(slots=True, kw_only=True)
class Slot:
    """A place for one worker."""

    index: int
    gpu: str = ""
    child: Child | None = None
    commands: int = -1
    events: int = -1
    buffer: bytes = b""
    task: Task | None = None
    heard: float = 0.0
    where: Mapping[str, int] = field(default_factory=dict)


class ProcessExecutor:
    """Runs attempts in worker processes.

    Args:
        places: For each worker the GPUs it may see, as CUDA_VISIBLE_DEVICES takes them; empty for none.
        logs: Folder for what workers print.
        launch: How a worker is started.
    """

    name = "process"

    def __init__(self, places: Sequence[str], logs: Path, *, threads: int = 1, launch: Launch = launch_python) -> None:
        self.logs, self.launch, self.threads = logs, launch, threads
        self.slots = [Slot(index=index, gpu=gpu) for index, gpu in enumerate(places)]
        self.sick: dict[str, int] = {}
        self._selector = selectors.DefaultSelector()
        self._oom_seen = oom_kills()
        logs.mkdir(parents=True, exist_ok=True)

    def prepare(self, request: Preparation, say: Callable[[str], None], stop: Callable[[], bool]) -> Prepared:
        """Make ready in a worker; the others start meanwhile.

        Raises:
            SetupError: If the worker died again and again.
            IcdError: What ``make_ready`` raised there.
            Interrupted: If ``stop`` said so.
        """
        for slot in self.slots:
            self._start(slot)
        slot, told, deaths = self.slots[0], False, 0
        self._tell(slot, {"do": "prepare", "request": _plain(request)})
        while True:
            for heard, message in self._messages():
                if heard is not slot:
                    continue
                if message["said"] == "line":
                    say(message["text"])
                elif message["said"] == "prepared":
                    return Prepared(**message["prepared"])
                elif message["said"] == "refused":
                    raise refusal(message)
                elif message["said"] == "died":
                    deaths += 1
                    died = f"the worker died while preparing ({message['reason']}); see {self._log(slot)}"
                    if deaths > PREPARE_RETRIES:
                        raise SetupError(died)
                    say(f"{died}; retry {deaths}/{PREPARE_RETRIES}")
                    self._start(slot)
                    self._tell(slot, {"do": "prepare", "request": _plain(request)})
                    told = False
            if stop() and not told:
                self._tell(slot, {"do": "stop"})
                told = True

    def run(self, policy: Policy, tick: Callable[[], None]) -> None:
        """Start what the policy gives and tell it what happens, until it is finished.

        Raises:
            SetupError: If every GPU has become unhealthy.
        """
        while not policy.finished:
            for slot in self.slots:
                if slot.task is None and self.sick.get(slot.gpu, 0) < _SICK_AFTER:
                    task = policy.next()
                    if task is None:
                        break
                    self._give(slot, task)
            for slot, message in self._messages():
                self._heard(slot, message, policy)
            self._check_hangs(policy)
            if all(self.sick.get(slot.gpu, 0) >= _SICK_AFTER for slot in self.slots):
                raise SetupError("every GPU has failed twice; check the machine (nvidia-smi), then 'icd resume'")
            tick()

    def close(self) -> None:
        """End all workers: politely by closing their pipes, then by force."""
        children = [slot.child for slot in self.slots if slot.child is not None]
        for slot in self.slots:
            self._close_pipes(slot)
        deadline = time.monotonic() + _GRACE_S
        while any(child.poll() is None for child in children) and time.monotonic() < deadline:
            time.sleep(0.02)
        for child in children:
            if child.poll() is None:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(child.pid, signal.SIGKILL)
                _wait(child)
        self._selector.close()

    def progress(self) -> Mapping[int, Mapping[str, int]]:
        """Epoch, step and steps of every trial under way."""
        return {slot.task.number: slot.where for slot in self.slots if slot.task is not None}

    # One slot

    def _give(self, slot: Slot, task: Task) -> None:
        if slot.child is None or slot.child.poll() is not None:
            self._start(slot)
        slot.task, slot.heard, slot.where = task, time.monotonic(), {}
        self._tell(slot, {"do": "attempt", "task": task.to_json()})

    def _heard(self, slot: Slot, message: Mapping[str, Any], policy: Policy) -> None:
        task, said = slot.task, message["said"]
        if task is None:
            return
        if said == "alive":
            slot.where = {name: message[name] for name in ("epoch", "step", "steps")}
        elif said == "epoch":
            go = policy.epoch(Epoch(**message["epoch"]))
            self._tell(slot, {"do": "answer", "go": go})
        elif said == "outcome":
            outcome = Outcome(**message["outcome"])
            if outcome.kind in ("gpu", "memory"):
                self._kill(slot)  # an error of CUDA stays with its process
            if outcome.kind == "gpu" and slot.gpu:
                self.sick[slot.gpu] = self.sick.get(slot.gpu, 0) + 1
            slot.task = None
            policy.end(outcome)
        elif said == "died":
            slot.task = None
            policy.end(_died(task, message["kind"], f"{message['reason']}; see {self._log(slot)}"))

    def _check_hangs(self, policy: Policy) -> None:
        now = time.monotonic()
        for slot in self.slots:
            if slot.task is not None and slot.child is not None and now - slot.heard > slot.task.hang_seconds:
                task, slot.task = slot.task, None
                with contextlib.suppress(ProcessLookupError):
                    os.kill(slot.child.pid, signal.SIGUSR1)  # writes its stack to the log
                    time.sleep(0.5)
                self._kill(slot)
                reason = f"no progress for {task.hang_seconds:.0f} s; stack in {self._log(slot)}"
                policy.end(_died(task, "hang", reason))

    def _start(self, slot: Slot) -> None:
        self._close_pipes(slot)
        theirs_in, slot.commands = os.pipe()
        slot.events, theirs_out = os.pipe()
        environment = {"OMP_NUM_THREADS": str(self.threads), "CUDA_VISIBLE_DEVICES": slot.gpu}
        log = self._log(slot)
        if log.exists() and log.stat().st_size > _LOG_BYTES:
            log.replace(log.with_suffix(".old.log"))
        slot.child = self.launch(theirs_in, theirs_out, environment, log)
        os.close(theirs_in)
        os.close(theirs_out)
        slot.buffer, slot.heard = b"", time.monotonic()
        self._selector.register(slot.events, selectors.EVENT_READ, slot)

    def _kill(self, slot: Slot) -> None:
        if slot.child is not None and slot.child.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(slot.child.pid, signal.SIGKILL)
        self._close_pipes(slot)
        _wait(slot.child)
        slot.child = None

    def _close_pipes(self, slot: Slot) -> None:
        for name in ("commands", "events"):
            handle = getattr(slot, name)
            if handle >= 0:
                if name == "events":
                    self._selector.unregister(handle)
                os.close(handle)
                setattr(slot, name, -1)

    def _tell(self, slot: Slot, command: Mapping[str, Any]) -> None:
        data = json.dumps(command).encode() + b"\n"
        with contextlib.suppress(BrokenPipeError):  # its death is found where its events end
            while data:
                data = data[os.write(slot.commands, data) :]

    def _messages(self) -> list[tuple[Slot, dict[str, Any]]]:
        """Wait a little for what workers say."""
        found: list[tuple[Slot, dict[str, Any]]] = []
        for key, _ in self._selector.select(_TICK_S):
            slot: Slot = key.data
            data = os.read(slot.events, 1 << 16)
            slot.heard = time.monotonic()
            *lines, slot.buffer = (slot.buffer + data).split(b"\n")
            found += [(slot, json.loads(line)) for line in lines]
            if not data:
                found.append((slot, self._death(slot)))
        return found

    def _death(self, slot: Slot) -> dict[str, Any]:
        code = _wait(slot.child)
        if slot.child is not None and slot.child.poll() is None:  # it closed its pipe and lives on: it must not
            with contextlib.suppress(ProcessLookupError):
                os.kill(slot.child.pid, signal.SIGKILL)
            _wait(slot.child)
        now_seen = oom_kills()
        self._close_pipes(slot)
        slot.child = None
        killed_for_memory = code == -signal.SIGKILL and now_seen > self._oom_seen
        self._oom_seen = now_seen
        kind: OutcomeKind = "memory" if killed_for_memory else "killed"
        how = "killed for memory" if killed_for_memory else "process killed"
        reason = f"{how} (signal {-code})" if code < 0 else f"process exited with code {code}"
        return {"said": "died", "kind": kind, "reason": reason}

    def _log(self, slot: Slot) -> Path:
        return self.logs / f"worker-{slot.index}.log"


def _wait(child: Child | None) -> int:
    """Give the exit code of a process that is about to end."""
    deadline = time.monotonic() + _GRACE_S
    while child is not None and child.poll() is None and time.monotonic() < deadline:
        time.sleep(0.005)
    return (child.poll() if child is not None else None) or 0


def oom_kills() -> int:
    """How many processes of this control group the kernel has killed for memory."""
    try:
        lines = MEMORY_EVENTS.read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("oom_kill "))
    except (OSError, StopIteration, ValueError, IndexError):
        return 0


def _died(task: Task, kind: OutcomeKind, reason: str) -> Outcome:
    return Outcome(number=task.number, attempt=task.attempt, kind=kind, reason=reason)


def _plain(request: Preparation) -> dict[str, Any]:
    return {name: getattr(request, name) for name in request.__slots__}


def refusal(message: Mapping[str, Any]) -> IcdError:
    """Make the error again that a worker's preparation raised."""
    text = "\n".join(message["problems"])
    if message["code"] == Interrupted.code:
        return Interrupted(text)
    error = IcdError(text)
    error.code, error.exit_code = message["code"], message["exit_code"]  # type: ignore[misc]
    return error
