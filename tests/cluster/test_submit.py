"""``--submit`` on a real head with its dashboard and a token."""

import importlib.util
import itertools
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from icd import search
from icd.search.study.locks import driver_lock
from tests.command import Command
from tests.documents import document_of
from tests.integration.ray_nodes import ROOT, Node, free_port, secret, wait_for
from tests.integration.ray_sweeps import document

QUICKSTART = ROOT / "search_spaces" / "quickstart.yaml"


@pytest.fixture
def head(tmp_path: Path) -> Iterator[str]:
    """A head whose jobs keep everything below ``tmp_path``; gives the address of its dashboard."""
    parts = Path(sys.prefix) / "dashboard"  # make setup puts tests/dashboard.txt there
    if importlib.util.find_spec("aiohttp_cors") is None and not parts.is_dir():
        pytest.skip("the job API needs ray[default]: make setup")
    names = ("--port", "--dashboard-port", "--dashboard-agent-listen-port", "--ray-client-server-port")
    ports = {name: str(free_port()) for name in names}
    words = ["--include-dashboard", "true", "--dashboard-host", "127.0.0.1", *itertools.chain(*ports.items())]
    with secret() as token:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("PATH", os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]))
            patch.setenv("PYTHONPATH", os.pathsep.join([os.environ.get("PYTHONPATH", ""), str(parts)]))
            patch.setenv("RAY_agent_register_timeout_ms", "100000")  # a busy machine takes long to import a dashboard
            patch.setenv("ICD_ROOT", str(tmp_path / "there"))
            node = Node(token.parent, "jobs", "--head", *words, cpus=1)
        try:
            node.wait()
            yield f"http://127.0.0.1:{ports['--dashboard-port']}"
        finally:
            node.kill()


def icd(*words: object, err: Path, **environment: str | None) -> subprocess.Popen[str]:
    """Start a command; what it says on stderr goes to a file."""
    names = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]), **environment}
    with err.open("w") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "icd.cli.main", *map(str, words)],
            env={name: value for name, value in names.items() if value is not None},
            cwd=err.parent,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        )


def said(process: subprocess.Popen[str], err: Path) -> tuple[int, str, str]:
    out, _ = process.communicate(timeout=240)
    return process.returncode, out, err.read_text()


def test_a_submitted_sweep_survives_its_client(head: str, tmp_path: Path, command: Command) -> None:
    root = tmp_path / "there"
    plan = {**document(tmp_path, epochs=20, trials=2, hang_seconds=300), "name": "tiny"}
    file, bad, err = tmp_path / "tiny.yaml", tmp_path / "bad.yaml", tmp_path / "client.err"
    file.write_text(yaml.safe_dump(document_of(plan)))
    bad.write_text(yaml.safe_dump(document_of({**plan, "studnt": "resnet8"})))

    client = icd("sweep", file, "--submit", head, err=err)
    stranger = icd(
        *("status", "--submit", head),
        err=tmp_path / "stranger.err",
        RAY_AUTH_MODE=None,
        RAY_AUTH_TOKEN_PATH=None,
        HOME=str(tmp_path),
    )
    wait_for(lambda: "joined at" in err.read_text() or client.poll() is not None, 240)
    assert client.poll() is None, err.read_text()
    client.kill()
    client.communicate()
    assert search.status("tiny", root=root).state in ("preparing", "driven")

    refused = command("sweep", bad, "--submit", head)
    assert (refused.code, refused.out) == (2, "")
    assert "studnt: unknown key; did you mean 'student'?" in refused.err
    assert "icd: job " not in refused.err
    code, out, text = said(stranger, tmp_path / "stranger.err")
    assert (code, out) == (3, "")
    assert f"{head} refuses this machine" in text
    assert "RAY_AUTH_TOKEN_PATH" in text

    (root / "sweeps" / "held").mkdir(parents=True)
    with driver_lock(root / "sweeps" / "held"):
        late = icd("sweep", file, "--name", "held", "--submit", head, err=tmp_path / "late.err")
        code, out, text = said(late, tmp_path / "late.err")
    assert (code, out) == (5, "")
    assert f"icd: error[STATE] sweep 'held' is driven by pid {os.getpid()}" in text

    wait_for(lambda: search.status("tiny", root=root).state not in ("preparing", "driven"), 200)
    code, out, text = said(icd("status", "tiny", "--json", "--submit", head, err=err), err)
    assert code == 0, text
    outside, inside = json.loads(out), search.status("tiny", root=root)
    assert (outside["state"], outside["counts"]["complete"]) == ("finished", 2)
    assert {name: outside[name] for name in inside.to_data()} == json.loads(json.dumps(inside.to_data()))
