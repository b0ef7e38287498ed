"""A worker process on this machine: its start, its pipe, its end and what it died of."""

import contextlib
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Protocol

from icd.machine import oom_kills
from icd.search.core.attempts import Location, ResultKind
from icd.search.core.messages import Down, Up

GRACE_S = 5.0
_LOG_BYTES = 10_000_000


class Child(Protocol):
    """A started process."""

    pid: int

    def poll(self) -> int | None:
        """Exit code, or minus the signal; None while it runs."""
        ...


# Starts a worker with (descriptor of its end of the pipe, environment changes, log file).
Launch = Callable[[int, Mapping[str, str], Path], Child]


def launch_python(pipe: int, environment: Mapping[str, str], log: Path) -> Child:
    """Start a fresh interpreter in a session of its own, so that Ctrl-C reaches the driver alone."""
    with log.open("ab") as file:
        return subprocess.Popen(
            [sys.executable, "-m", "icd.worker.main", str(pipe)],
            pass_fds=(pipe,),
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=file,
            env={**os.environ, **environment},
            start_new_session=True,
        )


@dataclass(slots=True, kw_only=True, eq=False)
class WorkerProcess:
    """One worker, whose process may be replaced."""

    log: Path  # what it prints
    location: Location  # this machine and the GPU that it may see
    attempt: str = ""  # name of the attempt it has in hand; empty where it is free
    child: Child | None = None
    pipe: Connection | None = None  # to it; None where there is no process

    @property
    def running(self) -> bool:
        """Whether there is a process."""
        return self.child is not None and self.child.poll() is None

    def start(self, launch: Launch, threads: int) -> None:
        """Start a process in place of the one before, if there was one."""
        self.close_pipe()
        self.pipe, theirs = Pipe()
        environment = {"OMP_NUM_THREADS": str(threads), "CUDA_VISIBLE_DEVICES": self.location.gpu}
        if self.log.exists() and self.log.stat().st_size > _LOG_BYTES:
            self.log.replace(self.log.with_suffix(".old.log"))
        self.child = launch(theirs.fileno(), environment, self.log)
        theirs.close()

    def send(self, message: Down) -> None:
        """Tell it; its death is found where its messages end."""
        with contextlib.suppress(OSError):
            if self.pipe is not None:
                self.pipe.send(message)

    def read(self) -> Up | None:
        """Give the message that has come; None at the end of them."""
        try:
            message: Up | None = self.pipe.recv() if self.pipe is not None else None
        except (EOFError, OSError):
            return None
        return message

    def kill(self) -> None:
        """Kill the process, if there is one."""
        if self.running and self.child is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.child.pid, signal.SIGKILL)

    def close_pipe(self) -> None:
        """Close what leads to the worker; it ends by itself then."""
        if self.pipe is not None:
            self.pipe.close()
        self.pipe = None

    def reap(self) -> int:
        """End the process and give its exit code: without a pipe it ends by itself, or is killed after a while."""
        self.close_pipe()
        wait(self.child, GRACE_S)
        self.kill()
        code = wait(self.child, GRACE_S)
        self.child = None
        return code


def wait(child: Child | None, seconds: float) -> int:
    """Give the exit code of a process that is about to end; 0 where it does not."""
    deadline = time.monotonic() + seconds
    while child is not None and child.poll() is None and time.monotonic() < deadline:
        time.sleep(0.005)
    return (child.poll() if child is not None else None) or 0


def classify_exit(code: int, oom_kills_before: int) -> tuple[ResultKind, str]:
    """Say of what a worker died, for the policy and for people."""
    for_memory = code == -signal.SIGKILL and oom_kills() > oom_kills_before
    reason = f"process killed (signal {-code})" if code < 0 else f"process exited with code {code}"
    if for_memory:  # the kernel keeps the peak of the largest process only, and kills the largest
        peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1e6  # KiB on Linux
        return "memory", f"killed for memory (signal {-code}); the largest worker has had {peak:.2f} GB"
    if code == -signal.SIGTERM:
        return "preempted", reason  # before it could heed the signal
    return "killed", reason
