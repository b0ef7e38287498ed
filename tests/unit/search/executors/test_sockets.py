"""Listening sockets as the kernel tells of them."""

import ipaddress
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from icd.search.executors.ray.security import is_loopback, listeners

pytestmark = pytest.mark.skipif(not Path("/proc/net/tcp").exists(), reason="no /proc here")

# In a network of its own that has no cards: a socket on all addresses that nobody can reach.
OUTSIDE = """
import os, socket
from icd.search.executors.ray.security import is_loopback, listeners
with socket.socket() as listener:
    listener.bind(("0.0.0.0", 0))
    listener.listen()
    print([(found.address, is_loopback(found.address)) for found in listeners(os.getpid())])
"""


@pytest.mark.parametrize(
    ("kind", "address"),
    [(socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1"), (socket.AF_INET6, "::ffff:127.0.0.1")],
)
def test_a_socket_of_ours_is_found(kind: socket.AddressFamily, address: str) -> None:
    with socket.socket(kind) as listener:
        try:
            listener.bind((address, 0))
        except OSError:
            pytest.skip(f"no {address} here")
        port = listener.getsockname()[1]
        assert port not in {found.port for found in listeners(os.getpid())}  # bound, but does not listen
        listener.listen()
        (found,) = (found for found in listeners(os.getpid()) if found.port == port)
        assert found.pid == os.getpid()
        assert is_loopback(found.address)
        assert ipaddress.ip_address(found.address) == ipaddress.ip_address(address)
    assert port not in {found.port for found in listeners(os.getpid())}


def test_a_socket_on_all_addresses_is_told_apart() -> None:
    words = ["unshare", "-n", sys.executable, "-c", OUTSIDE]
    done = subprocess.run(words, cwd=Path(__file__).parents[4], capture_output=True, text=True, check=False)
    if "unshare" in done.stderr:
        pytest.skip("no network of our own to be had here")
    assert done.stdout.strip() == "[('0.0.0.0', False)]", done.stderr


@pytest.mark.parametrize(
    ("address", "loopback"),
    [
        ("127.0.0.1", True),
        ("127.0.1.1", True),
        ("::1", True),
        ("::ffff:127.0.0.1", True),
        ("0.0.0.0", False),
        ("::", False),
        ("192.0.2.2", False),
        ("::ffff:192.0.2.2", False),
    ],
)
def test_loopback(address: str, loopback: bool) -> None:
    assert is_loopback(address) is loopback


def test_a_socket_of_a_child_is_found() -> None:
    words = (
        "import socket, sys; s = socket.create_server(('127.0.0.1', 0)); print(s.getsockname()[1]); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", words], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as child:
        assert child.stdout
        port = int(child.stdout.readline())
        assert (child.pid, port) in {(found.pid, found.port) for found in listeners(os.getpid())}
        child.communicate()
