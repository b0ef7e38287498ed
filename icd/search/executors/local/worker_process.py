"""A place for one worker process: the process, its pipes, and the attempt it has in hand."""

import contextlib
import json
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from icd.search.core.attempts import Attempt, OutcomeKind

GRACE_S = 5.0
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
            [sys.executable, "-m", "icd.worker.main", str(commands), str(events)],
            pass_fds=(commands, events),
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=file,
            env={**os.environ, **environment},
            start_new_session=True,
        )


@dataclass(slots=True, kw_only=True)
class WorkerProcess:
    """One worker.

    Attributes:
        index: Names its log.
        log: What it prints.
        gpu: What it may see, as CUDA_VISIBLE_DEVICES takes it; empty for none.
        task: The attempt it has in hand.
        heard: When that last made a step or was given.
        where: Epoch, step and steps of it.
    """

    index: int
    log: Path
    gpu: str = ""
    task: Attempt | None = None
    heard: float = 0.0
    where: Mapping[str, int] = field(default_factory=dict)
    child: Child | None = None
    commands: int = -1
    events: int = -1
    buffer: bytes = b""

    @property
    def running(self) -> bool:
        """Whether there is a process."""
        return self.child is not None and self.child.poll() is None

    def start(self, launch: Launch, threads: int) -> None:
        """Start a process; the old one's pipes must be closed."""
        theirs_in, self.commands = os.pipe()
        self.events, theirs_out = os.pipe()
        environment = {"OMP_NUM_THREADS": str(threads), "CUDA_VISIBLE_DEVICES": self.gpu}
        if self.log.exists() and self.log.stat().st_size > _LOG_BYTES:
            self.log.replace(self.log.with_suffix(".old.log"))
        self.child = launch(theirs_in, theirs_out, environment, self.log)
        os.close(theirs_in)
        os.close(theirs_out)
        self.buffer = b""

    def tell(self, command: Mapping[str, Any]) -> None:
        """Send a command."""
        data = json.dumps(command).encode() + b"\n"
        with contextlib.suppress(BrokenPipeError):  # its death is found where its events end
            while data:
                data = data[os.write(self.commands, data) :]

    def read(self) -> list[dict[str, Any]] | None:
        """Give the whole messages that have come; None at the end of them."""
        data = os.read(self.events, 1 << 16)
        *lines, self.buffer = (self.buffer + data).split(b"\n")
        return [json.loads(line) for line in lines] if data else None

    def signal(self, number: int) -> None:
        """Send a signal, if there is a process."""
        if self.running and self.child is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.child.pid, number)

    def close_pipes(self) -> None:
        """Close what leads to the worker; it ends by itself then."""
        for handle in (self.commands, self.events):
            if handle >= 0:
                os.close(handle)
        self.commands = self.events = -1

    def reap(self) -> int:
        """Make sure that the process is over, and give its exit code; one that closed its pipe must not live on."""
        wait(self.child, GRACE_S)
        self.signal(signal.SIGKILL)
        code = wait(self.child, GRACE_S)
        self.child = None
        return code


def wait(child: Child | None, seconds: float) -> int:
    """Give the exit code of a process that is about to end; 0 where it does not."""
    deadline = time.monotonic() + seconds
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


def cause_of_death(code: int, oom_kills_before: int) -> tuple[OutcomeKind, str]:
    """Say of what a worker died, for the policy and for people."""
    for_memory = code == -signal.SIGKILL and oom_kills() > oom_kills_before
    reason = f"process killed (signal {-code})" if code < 0 else f"process exited with code {code}"
    if for_memory:  # the kernel keeps the peak of the largest process only, and kills the largest
        peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1e6  # KiB on Linux
        return "memory", f"killed for memory (signal {-code}); the largest worker has had {peak:.2f} GB"
    if code == -signal.SIGTERM:
        return "preempted", reason  # before it could heed the signal
    return "killed", reason
