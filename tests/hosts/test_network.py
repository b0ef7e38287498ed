"""Hosts of our own are like machines: apart, reachable, cut off, killed, and gone without a trace."""

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.hosts.network import Host, missing, network

pytestmark = [
    pytest.mark.skipif(bool(missing()), reason=missing()),
]

LISTEN = "import socket; s = socket.create_server(('0.0.0.0', 7000)); print(s.accept())"
CALL = "import socket; socket.create_connection(('{}', 7000), timeout=0.5)"


@pytest.fixture(scope="module")
def hosts() -> Iterator[dict[str, Host]]:
    with network(["one", "two"], {"second": "two"}) as found:
        yield found


def calls(host: Host, name: str) -> bool:
    said = host.run("python3", "-c", CALL.format(name), check=False)
    assert not said or "refused" in said or "timed out" in said or "No route" in said, said
    return not said or "refused" in said


def test_each_has_its_own_name_address_processes_and_disk(hosts: dict[str, Host]) -> None:
    for host in hosts.values():
        assert host.run("hostname") == f"{host.name}\n"
        assert host.address in host.run("ip", "-brief", "address")
        assert host.run("sh", "-c", f"ls {host.folder}").split() == ["home", "up"]
        assert host.run("sh", "-c", "ls /proc").split().count("1") == 1
        host.write(".icd/secret", host.name)
        assert host.run("sh", "-c", "cat ~/.icd/secret; stat -c %a ~/.icd/secret") == f"{host.name}600\n"
    assert hosts["one"].folder == hosts["two"].folder


def test_one_that_is_cut_off_is_silent_until_it_returns(hosts: dict[str, Host]) -> None:
    one, two = hosts["one"], hosts["two"]
    assert calls(one, "second")
    two.cable("down")
    assert not calls(one, "second")
    two.cable("up")
    deadline = time.monotonic() + 10
    while not calls(one, "second"):
        assert time.monotonic() < deadline


def test_one_that_sleeps_says_nothing_until_it_wakes_and_can_be_killed() -> None:
    with network(["one"]) as hosts:
        one = hosts["one"]
        one.start("sh", "-c", f"while :; do date +%N >> {one.folder}/ticks; sleep 0.02; done", log="loop.log")
        ticks = one.disk / "ticks"

        def grows() -> bool:
            size = ticks.stat().st_size if ticks.exists() else 0
            time.sleep(0.3)
            return ticks.exists() and ticks.stat().st_size > size

        deadline = time.monotonic() + 20
        while not grows():
            assert time.monotonic() < deadline
        one.sleep()
        assert not grows()
        one.wake()
        while not grows():
            assert time.monotonic() < deadline
        one.sleep()
        asleep = one.pids()
        one.kill()
        assert not [pid for pid in asleep if Path(f"/proc/{pid}/exe").exists()]


def test_one_that_is_killed_takes_its_processes_along() -> None:
    with network(["one"]) as hosts:
        one = hosts["one"]
        one.start("python3", "-c", LISTEN, log="listen.log")
        deadline = time.monotonic() + 20
        while len(pids := one.pids()) < 2:
            assert time.monotonic() < deadline
        one.kill()
        assert not [pid for pid in pids if Path(f"/proc/{pid}/exe").exists()]
        base = one.folder.parent
        assert base.is_dir()
    assert not base.exists()


def test_a_killed_run_leaves_nothing_behind() -> None:
    script = (
        "import sys, os, signal\n"
        "from tests.hosts.network import network\n"
        "with network(['one']) as hosts:\n"
        "    print(hosts['one'].first, hosts['one'].switch, hosts['one'].folder.parent, flush=True)\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    *pids, base = done.stdout.split()
    assert len(pids) == 2, done.stderr
    deadline = time.monotonic() + 20
    while any(Path(f"/proc/{pid}/exe").exists() for pid in pids):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    with network(["one"]):
        assert not Path(base).exists()
