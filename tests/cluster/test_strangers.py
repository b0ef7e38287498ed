"""Who has no token: cannot submit a job, and a cluster that asks for none is not joined."""

import importlib.util
import json
import os
import shutil
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from icd.errors import SetupError
from icd.search.executors.ray.connection import join
from tests.integration.ray_nodes import ROOT, Node, free_port, secret, wait_for

# A network of its own with an address that is not loopback: the head takes it, as on a machine that others reach.
NETWORK = """
ip link set lo up && ip addr add 10.77.0.1/32 dev lo && ip route add default dev lo && exec "$@"
"""


def status_of(address: str, token: str | None, entrypoint: str = "true") -> int:
    """Submit a job; gives what the server answers."""
    request = urllib.request.Request(
        f"http://{address}/api/jobs/",
        data=json.dumps({"entrypoint": entrypoint}).encode(),
        headers={"Content-Type": "application/json", **({"Authorization": f"Bearer {token}"} if token else {})},
    )
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code
    except OSError:
        return 0


@pytest.mark.skipif(importlib.util.find_spec("aiohttp_cors") is None, reason="the job API needs ray[default]")
def test_a_job_without_the_token_is_refused(tmp_path: Path) -> None:
    with secret() as path:
        port, mark = free_port(), tmp_path / "ran"
        address = f"127.0.0.1:{port}"
        words = ("--head", "--port", str(free_port()), "--include-dashboard", "true")
        head = Node(path.parent, "jobs", *words, "--dashboard-host", "127.0.0.1", "--dashboard-port", str(port))
        try:
            head.wait()
            wait_for(lambda: status_of(address, path.read_text()) == 200, 120)
            for token, answer in ((None, 401), ("", 401), ("f" * 64, 403)):
                assert status_of(address, token, f"touch {mark}") == answer
            environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
            submit = ("job", "submit", "--address", f"http://{address}", "--no-wait", "--", "touch", str(mark))
            done = subprocess.run(
                [sys.executable, "-m", "ray.scripts.scripts", *submit],
                env={**environment, "HOME": str(tmp_path)},
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=120,
                check=False,
            )
            assert done.returncode != 0
            assert "401" in done.stdout + done.stderr or "token" in (done.stdout + done.stderr).lower()
        finally:
            head.kill()
    assert not mark.exists()


def test_an_open_cluster_is_not_joined() -> None:
    can = subprocess.run(["unshare", "-n", "sh", "-c", NETWORK, "sh", "true"], check=False, capture_output=True)
    if can.returncode:
        pytest.skip("no network of our own to be had here")
    done = subprocess.run(
        ["unshare", "-n", "sh", "-c", NETWORK, "sh", sys.executable, "-m", "tests.cluster.test_strangers"],
        cwd=ROOT,
        env={**os.environ, "RAY_AUTH_MODE": "disabled"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=250,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    said = done.stdout.strip().splitlines()
    assert len(said) == 2, said
    assert all("runs the code of everybody who reaches 10.77.0.1: it has no token" in line for line in said)


def main() -> None:
    """In that network: start a head without a token and try to join it, with and without a token of ours."""
    folder = Path(tempfile.mkdtemp(prefix="icdt-", dir="/tmp"))
    (folder / "token").write_text("0123456789abcdef" * 4)
    address = f"10.77.0.1:{free_port()}"
    head = Node(folder, "open", "--head", "--port", address.rpartition(":")[2], "--include-dashboard", "false")
    try:
        head.wait()
        for mode in ("disabled", "token"):
            os.environ |= {"RAY_AUTH_MODE": mode, "RAY_AUTH_TOKEN_PATH": str(folder / "token")}
            try:
                join(address)
            except SetupError as error:
                sys.stdout.write(f"{error}\n")
            import ray

            ray.shutdown()
    finally:
        head.kill()
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
