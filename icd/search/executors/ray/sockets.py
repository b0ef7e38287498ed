"""Which sockets of our own processes listen, and on what address."""

import ipaddress
from collections.abc import Iterable
from typing import NamedTuple

import psutil


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
    wanted = set(pids)
    return {
        Listener(found.pid, found.laddr.ip, found.laddr.port)
        for found in psutil.net_connections(kind="tcp")
        if found.status == psutil.CONN_LISTEN and found.pid in wanted
    }


def family(pid: int) -> list[int]:
    """Give a process and all below it, itself first."""
    try:
        return [pid, *(child.pid for child in psutil.Process(pid).children(recursive=True))]
    except psutil.NoSuchProcess:
        return [pid]
