"""Which sockets of our own processes listen, and on what address; read from ``/proc``, so on Linux only."""

import contextlib
import ipaddress
import struct
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

_LISTENS = "0A"  # TCP_LISTEN of include/net/tcp_states.h
_PROC = Path("/proc")


class Listener(NamedTuple):
    """A listening TCP socket and a process that has it."""

    pid: int
    address: str
    port: int

    @property
    def loopback(self) -> bool:
        """Whether this machine alone can reach it."""
        address = ipaddress.ip_address(self.address)
        mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
        return (mapped or address).is_loopback


def listeners(pids: Iterable[int]) -> set[Listener]:
    """Find the listening sockets of processes; of those that end meanwhile, or are another user's, none."""
    places = dict(_listening())
    found = set()
    for pid in pids:
        with contextlib.suppress(OSError):
            for entry in (_PROC / str(pid) / "fd").iterdir():
                with contextlib.suppress(OSError):
                    target = str(entry.readlink())
                    if target.startswith("socket:[") and target[8:-1] in places:
                        found.add(Listener(pid, *places[target[8:-1]]))
    return found


def family(pid: int) -> list[int]:
    """Give a process and all below it, the nearest first."""
    children: dict[int, list[int]] = {}
    for path in _PROC.glob("[0-9]*/stat"):
        with contextlib.suppress(OSError, ValueError, IndexError):
            parent = int(path.read_text().rpartition(")")[2].split()[1])
            children.setdefault(parent, []).append(int(path.parent.name))
    found = [pid]
    for known in found:
        found += children.get(known, [])
    return found


def _listening() -> Iterator[tuple[str, tuple[str, int]]]:
    """Give inode, address and port of every listening socket of this network namespace."""
    for name in ("tcp", "tcp6"):
        with contextlib.suppress(OSError):
            for line in (_PROC / "net" / name).read_text().splitlines()[1:]:
                words = line.split()
                if words[3] == _LISTENS:
                    address, _, port = words[1].partition(":")
                    yield words[9], (_address(address), int(port, 16))


def _address(digits: str) -> str:
    """Read the kernel's notation: words of 32 bits, each in the byte order of this machine."""
    words = [int(digits[start : start + 8], 16) for start in range(0, len(digits), 8)]
    packed = struct.pack(f"={len(words)}I", *words)
    return str(ipaddress.ip_address(packed))
