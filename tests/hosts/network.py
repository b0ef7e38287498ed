"""Hosts on this machine: namespaces for network, processes, names and disks, joined by a bridge in one more.

Nothing of it has a name on the real machine, so two runs never meet, and all of it goes when its first process does:
each is killed by the kernel when whoever started it dies, and takes its namespaces and cables along.
"""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
PREFIX = "10.77.0."
_TOOLS = ("unshare", "nsenter", "setpriv", "ip", "mount")
# Orphans end here and are never waited for, so the kernel is told to bury them.
_FIRST = """
trap '' CHLD
set -e
hostname "$1"
mount --bind "$2/hosts" /etc/hosts
mount --bind "$2/resolv.conf" /etc/resolv.conf
mount --bind "$2/disks/$1" "$2/local"
mount -t tmpfs -o mode=1777,size=1g tmpfs /dev/shm
ip link set lo up
touch "$2/local/up"
exec sleep infinity
"""


def missing() -> str:
    """Say why there can be no such hosts here; nothing where there can."""
    if os.getuid() != 0:
        return "hosts of our own need root, for network namespaces"
    lacking = [tool for tool in _TOOLS if shutil.which(tool) is None]
    if lacking:
        return f"hosts of our own need {' and '.join(lacking)}"
    tried = subprocess.run(["unshare", "-n", "-m", "-p", "-f", "ip", "link", "set", "lo", "up"], capture_output=True)
    return f"no namespaces here: {tried.stderr.decode().strip()}" if tried.returncode else ""


@dataclass(slots=True, kw_only=True)
class Host:
    """What looks like a machine of its own: address, name, processes, ``/dev/shm``, and ``folder`` as its own disk.

    Attributes:
        folder: A path at which each host sees its own disk.
        disk: Where that disk is, seen from outside.
        switch: Process in whose network its cable ends.
    """

    name: str
    address: str
    folder: Path
    disk: Path
    switch: int
    first: int = 0
    holder: "subprocess.Popen[bytes] | None" = None
    environment: dict[str, str] = field(default_factory=dict)
    started: "list[subprocess.Popen[bytes]]" = field(default_factory=list)

    @property
    def home(self) -> Path:
        """Its user's home, as it sees it."""
        return self.folder / "home"

    def words(self, *words: str, user: str = "root", variables: Mapping[str, str] | None = None) -> list[str]:
        """Give the command that runs a command there, in an environment of its own."""
        set_to = {
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "HOME": str(self.home),
            "LANG": "C.UTF-8",
            "OMP_NUM_THREADS": "1",
            "PYTHONPATH": str(ROOT),
            **self.environment,
            **(variables or {}),
        }
        enter = ["nsenter", "--target", str(self.first), "--mount", "--uts", "--ipc", "--net", "--pid"]
        become = [] if user == "root" else ["setpriv", "--reuid", user, "--regid", user, "--clear-groups"]
        return [
            *enter,
            "env",
            "-i",
            f"--chdir={ROOT}",
            *(f"{name}={value}" for name, value in set_to.items()),
            *become,
            *words,
        ]

    def run(self, *words: str, check: bool = True, seconds: float = 120, **more: Any) -> str:
        """Run a command there and give what it wrote."""
        command = self.words(*words, **more)
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=seconds, check=False
        )
        assert done.returncode == 0 or not check, f"{self.name}: {words}: {done.stdout}{done.stderr}"
        return done.stdout + ("" if check else done.stderr)

    def start(self, *words: str, log: str, **more: Any) -> None:
        """Start a command there that goes on; it ends with its host."""
        command = self.words(*words, **more)
        with (self.disk / log).open("ab") as out:
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True
            )
            self.started.append(process)

    def write(self, path: str, text: str, mode: int = 0o600) -> None:
        """Put a file below its user's home."""
        target = self.disk / "home" / path
        target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        target.touch(mode=mode)
        target.write_text(text)

    def pids(self) -> list[int]:
        """Its processes, by their numbers outside."""
        if not self.first:
            return []
        mine = Path(f"/proc/{self.first}/ns/pid").readlink()
        found = []
        for path in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                if (path / "ns/pid").readlink() == mine:
                    found.append(int(path.name))
        return found

    def cable(self, state: str) -> None:
        """Pull the cable (``down``), without anybody being told, or put it back (``up``)."""
        in_network(self.switch, "ip", "link", "set", f"v-{self.name}", state)

    def sleep(self) -> None:
        """Stop every process, as a virtual machine that is paused."""
        self._signal(signal.SIGSTOP)

    def wake(self) -> None:
        """Let every process go on."""
        self._signal(signal.SIGCONT)

    def _signal(self, number: signal.Signals) -> None:
        for pid in self.pids():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)

    def kill(self) -> None:
        """Lose the machine: the cable first, so that no connection is closed, then every process."""
        self.cable("down")
        self._end()

    def _end(self) -> None:
        if self.holder is None:
            return
        self.holder.kill()
        for process in self.started:  # they must bury what they started there; one whose child sleeps sleeps too
            process.kill()
        for process in [self.holder, *self.started]:
            process.wait()
        deadline = time.monotonic() + 20
        while _runs(self.first) and time.monotonic() < deadline:
            time.sleep(0.05)
        assert not _runs(self.first), f"{self.name} cannot be ended"
        self.holder, self.first = None, 0
        self.started.clear()


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def in_network(pid: int, *words: str) -> None:
    """Run a command in the network of a process."""
    subprocess.run(["nsenter", "--target", str(pid), "--net", *words], check=True, capture_output=True)


def _hold(*words: str, spaces: Sequence[str]) -> "tuple[subprocess.Popen[bytes], int]":
    """Start a first process in new namespaces; gives what holds it, and its number."""
    holder = subprocess.Popen(
        ["setpriv", "--pdeathsig", "KILL", "unshare", *spaces, "--pid", "--fork", "--kill-child=KILL", *words],
        stdin=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError, IndexError):
            return holder, int(Path(f"/proc/{holder.pid}/task/{holder.pid}/children").read_text().split()[0])
        time.sleep(0.01)
    raise TimeoutError(f"no process in new namespaces: {words}")


def _wait(path: Path) -> None:
    deadline = time.monotonic() + 20
    while not path.exists():
        assert time.monotonic() < deadline, f"{path} does not come"
        time.sleep(0.01)


@contextlib.contextmanager
def network(names: Sequence[str], aliases: Mapping[str, str] | None = None) -> Iterator[dict[str, Host]]:
    """Hosts that reach each other by name and address, and nothing else; ``shared`` beside their disks is theirs alike.

    Args:
        names: Of the hosts, at most ten letters each.
        aliases: Further names, and whose they are.
    """
    _sweep_out()
    base = Path(tempfile.mkdtemp(prefix=f"icdh-{os.getpid()}-", dir="/tmp"))  # a short path: Ray puts sockets there
    base.chmod(0o755)
    hosts: dict[str, Host] = {}
    switch: subprocess.Popen[bytes] | None = None
    try:
        for name in ("shared", "local", *(f"disks/{name}/home" for name in names)):
            (base / name).mkdir(parents=True)
        lines = ["127.0.0.1 localhost"]
        for number, name in enumerate(names):
            also = [alias for alias, whose in (aliases or {}).items() if whose == name]
            lines.append(" ".join([f"{PREFIX}{10 + number}", name, *also]))
        (base / "hosts").write_text("\n".join(lines) + "\n")
        (base / "resolv.conf").write_text("nameserver 127.0.0.1\n")  # nobody: what is not in the file is not found
        switch, pid = _hold("sleep", "infinity", spaces=["--net"])
        in_network(pid, "ip", "link", "add", "bridge", "type", "bridge")
        in_network(pid, "ip", "link", "set", "bridge", "up")
        for number, name in enumerate(names):
            disk = base / "disks" / name
            host = Host(name=name, address=f"{PREFIX}{10 + number}", folder=base / "local", disk=disk, switch=pid)
            spaces = ["--mount", "--uts", "--ipc", "--net", "--mount-proc"]
            host.holder, host.first = _hold("sh", "-c", _FIRST, "sh", name, str(base), spaces=spaces)
            hosts[name] = host
            _wait(disk / "up")
            _connect(host)
        yield hosts
    finally:
        for host in hosts.values():
            host._end()
        if switch is not None:
            switch.kill()
            switch.wait()
        shutil.rmtree(base, ignore_errors=True)


def _sweep_out() -> None:
    """Remove the folders of runs that were killed; nothing else of them is left."""
    for folder in Path("/tmp").glob("icdh-*-*"):
        owner = folder.name.split("-")[1]
        if owner.isdecimal() and not Path(f"/proc/{owner}").exists():
            shutil.rmtree(folder, ignore_errors=True)


def _connect(host: Host) -> None:
    """Lay a cable between a host and the bridge."""
    cable = f"v-{host.name}"
    words = f"ip link add {cable} type veth peer name eth0 netns {host.first}"
    in_network(host.switch, *words.split())
    in_network(host.switch, "ip", "link", "set", cable, "master", "bridge", "up")
    in_network(host.first, "ip", "address", "add", f"{host.address}/24", "dev", "eth0")
    in_network(host.first, "ip", "link", "set", "eth0", "up")
    # As machines have one: programs ask by which way they would leave in order to learn their own address.
    in_network(host.first, "ip", "route", "add", "default", "dev", "eth0")
