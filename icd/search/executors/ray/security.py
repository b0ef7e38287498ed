"""Who may reach a Ray: a cluster of our own is bound to loopback and has a token; one open to others is not joined."""

import contextlib
import ipaddress
import os
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import psutil
import ray

from icd.errors import SetupError

_ANSWER_S = 30.0
# Run with authentication switched off. Success means that anybody may run code on the cluster.
_STRANGER = """
import sys
import ray
from ray._raylet import GcsClient

try:
    GcsClient(address=sys.argv[1]).get_all_node_info(timeout=10)
except ray.exceptions.AuthenticationError:
    sys.exit(3)
"""
_OPEN, _SHUT = 0, 3


class Listener(NamedTuple):
    """A listening TCP socket and a process that has it."""

    pid: int
    address: str
    port: int


def listeners(pid: int) -> set[Listener]:
    """Find the listening sockets of a process and of all below it; of those that end meanwhile, none."""
    wanted = {pid}
    with contextlib.suppress(psutil.NoSuchProcess):
        wanted |= {child.pid for child in psutil.Process(pid).children(recursive=True)}
    return {
        Listener(found.pid, found.laddr.ip, found.laddr.port)
        for found in psutil.net_connections(kind="tcp")
        if found.status == psutil.CONN_LISTEN and found.pid in wanted
    }


def is_loopback(address: str) -> bool:
    """Whether this machine alone can reach an address."""
    parsed = ipaddress.ip_address(address)
    mapped = parsed.ipv4_mapped if isinstance(parsed, ipaddress.IPv6Address) else None
    return (mapped or parsed).is_loopback


def exposed(before: set[Listener]) -> list[Listener]:
    """Give the sockets of this process and its children that others can reach and that are newer than ``before``."""
    return sorted(listener for listener in listeners(os.getpid()) - before if not is_loopback(listener.address))


def write_token(folder: Path) -> Path:
    """Write a fresh token that this user alone can read."""
    path = folder / "token"
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(os.urandom(32).hex())
    return path


def is_open(address: str) -> bool | None:
    """Whether a cluster takes commands from one who has no token; None where that cannot be found out."""
    with contextlib.suppress(subprocess.TimeoutExpired):
        done = subprocess.run(
            [sys.executable, "-c", _STRANGER, address],
            env={**os.environ, "RAY_AUTH_MODE": "disabled"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            timeout=_ANSWER_S,
            check=False,
        )
        if done.returncode in (_OPEN, _SHUT):
            return done.returncode == _OPEN
    return None


def refuse_open(address: str) -> None:
    """Refuse the cluster that was joined if others can reach it and need no token.

    Raises:
        SetupError: Then.
    """
    addresses = {str(node["NodeManagerAddress"]) for node in ray.nodes() if node["Alive"]}
    outside = sorted(found for found in addresses if not is_loopback(found))
    if outside and is_open(address):
        raise SetupError(
            f"the Ray cluster at {address} runs the code of everybody who reaches {outside[0]}: it has no token; "
            "start its nodes with RAY_AUTH_MODE=token and RAY_AUTH_TOKEN_PATH=FILE (docs/administration/security.md)"
        )
