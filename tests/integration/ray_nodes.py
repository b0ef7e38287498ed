"""Raylets of our own for tests on clusters; never ``ray stop``, which would end every Ray on the machine."""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]


def wait_for(condition: Callable[[], bool], seconds: float) -> float:
    """Wait until something is so; gives how long that took."""
    started = time.monotonic()
    while not condition():
        assert time.monotonic() - started < seconds, "waited too long"
        time.sleep(0.05)
    return time.monotonic() - started


def is_alive(pid: int) -> bool:
    """Whether a process runs."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def started_at(pid: int) -> str:
    """When a process started, in ticks: with the number it names one process, for numbers are used again."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except OSError:
        return ""


def descendants(pid: int) -> list[int]:
    """Give the processes below a process, the nearest first."""
    children: dict[int, list[int]] = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError, ValueError):
            parent = int(path.read_text().rpartition(")")[2].split()[1])
            children.setdefault(parent, []).append(int(path.parent.name))
    found = [pid]
    for known in found:
        found += children.get(known, [])
    return found[1:]


def command_of(pid: int) -> str:
    """The command line, or what the process calls itself."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").replace("\0", " ").strip()
    except OSError:
        return ""


class Node:
    """A raylet of our own, with the head's processes if it is the first.

    Args:
        folder: With a short path, for sockets and logs.
        words: For ``ray start``.
        gpus: That Ray believes it has.
        hidden: A folder that this node sees empty.
        source: Where this node has its icd from.
        environment: What its processes find there, beside our own.
        before: Words before the command that starts it.
    """

    def __init__(
        self,
        folder: Path,
        name: str,
        *words: str,
        cpus: int = 1,
        gpus: int = 0,
        hidden: Path | None = None,
        source: Path = ROOT,
        environment: Mapping[str, str] = MappingProxyType({}),
        before: Sequence[str] = (),
    ) -> None:
        self.temp = folder / name
        self.log = folder / f"{name}.log"
        start = [
            *(sys.executable, "-m", "ray.scripts.scripts", "start", *words, "--block", "--disable-usage-stats"),
            *("--num-cpus", str(cpus), "--num-gpus", str(gpus), "--object-store-memory", "100000000"),
            *("--temp-dir", str(self.temp)),
        ]
        if hidden is not None:
            start = ["unshare", "-m", "sh", "-c", f'mount -t tmpfs none {hidden} && exec "$@"', "sh", *start]
        start = [*before, *start]
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                start,
                cwd=source,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                env={**os.environ, "PYTHONPATH": _with(source), "RAY_worker_niceness": "0", **environment},
            )

    def wait(self) -> None:
        """Until it is part of its cluster."""
        wait_for(lambda: "--block" in self.log.read_text() or self.process.poll() is not None, 120)
        assert self.process.poll() is None, self.log.read_text()

    def pids(self) -> list[int]:
        """Its processes, workers too; those that have lost their parent are known by their folder."""
        named = [
            int(path.name) for path in Path("/proc").glob("[0-9]*") if str(self.temp) in command_of(int(path.name))
        ]
        return sorted({self.process.pid, *descendants(self.process.pid), *named} - {os.getpid()})

    @property
    def raylet(self) -> int:
        """The process that starts its workers."""
        (pid,) = [pid for pid in self.pids() if "raylet/raylet" in command_of(pid).partition(" ")[0]]
        return pid

    def kill(self) -> None:
        """End every process of this node, and no other Ray."""
        deadline = time.monotonic() + 20
        while (pids := [pid for pid in self.pids() if is_alive(pid)]) and time.monotonic() < deadline:
            for pid in pids:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            time.sleep(0.05)
        self.process.wait(10)


def _with(root: Path) -> str:
    """What is imported before, and the package."""
    return os.pathsep.join([str(root), *filter(None, [os.environ.get("PYTHONPATH")])])


def free_port() -> int:
    """A port that nobody uses now."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


@contextlib.contextmanager
def secret() -> Iterator[Path]:
    """A folder with a short path, with the cluster's token in it, which the environment names; gives the token."""
    folder = Path(tempfile.mkdtemp(prefix="icdt-", dir="/tmp"))
    path = folder / "token"
    path.touch(mode=0o600)
    path.write_text("0123456789abcdef" * 4)
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("RAY_AUTH_MODE", "token")
            patch.setenv("RAY_AUTH_TOKEN_PATH", str(path))
            yield path
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def cluster(
    token: Path,
    *more: Path | None,
    cpus: int = 1,
    gpus: int = 0,
    head_cpus: int | None = None,
    source: Path = ROOT,
    environment: Mapping[str, str] = MappingProxyType({}),
    before: Sequence[str] = (),
) -> Iterator[tuple[str, list[Node]]]:
    """A head, and for each of ``more`` another node to which that folder is hidden, with that source of icd.

    These others have ``environment`` and ``before`` too; the head has ``head_cpus``, if that is another number.
    """
    address = f"127.0.0.1:{free_port()}"
    name = address.rpartition(":")[2]
    words = (token.parent, f"h{name}", "--head", "--port", name, "--include-dashboard", "false")
    nodes = [Node(*words, cpus=cpus if head_cpus is None else head_cpus, gpus=gpus)]
    try:
        nodes[0].wait()
        for number, hidden in enumerate(more):
            given: dict[str, Any] = {"hidden": hidden, "source": source, "environment": environment, "before": before}
            nodes.append(Node(token.parent, f"n{number}{name}", "--address", address, cpus=cpus, gpus=gpus, **given))
        for node in nodes[1:]:
            node.wait()
        yield address, nodes
    finally:
        for node in reversed(nodes):
            node.kill()
