"""A training that is interrupted or killed goes on with ``--resume`` and ends with the same student."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch

import icd
from tests.command import Command, one_line

EPOCHS = 100  # a signal comes a few epochs after the first, or seconds after it on a busy machine
DATA = "{name: digits100, train_per_class: 2, test_per_class: 1, val_fraction: 0.5}"
PLAIN = f"""data: {DATA}
student: resnet8
method: cross_entropy
training: {{epochs: {EPOCHS}, batch_size: 50}}
"""


def begin(path: Path, root: Path) -> "subprocess.Popen[str]":
    """Start a training in a process of its own and wait for its first epoch."""
    environment = {**os.environ, "PYTHONPATH": str(Path(icd.__file__).parents[1]), "OMP_NUM_THREADS": "1"}
    words = [sys.executable, "-m", "icd.cli.main", "train", str(path), "--root", str(root), "--threads", "1"]
    process = subprocess.Popen(words, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True, env=environment)
    assert process.stderr is not None
    seen = []
    for line in process.stderr:
        seen.append(line)
        if line.startswith("epoch "):
            return process
    raise AssertionError("".join(seen))


def outcome(root: Path) -> tuple[str, list[dict[str, Any]]]:
    folder = root / "trials" / "plain"
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    rows = [{name: row[name] for name in row if not name.startswith(("time", "seconds/", "speed/"))} for row in rows]
    return json.loads((folder / "result.json").read_text())["student_sha256"], rows


def test_interrupted_killed_resumed(command: Command, tmp_path: Path) -> None:
    plain = tmp_path / "plain.yaml"
    plain.write_text(PLAIN)
    before = torch.get_num_threads()
    try:
        whole, interrupted, killed = (tmp_path / name for name in ("whole", "interrupted", "killed"))
        assert command("train", plain, "--root", whole, "--threads", 1).code == 0
        wanted = outcome(whole)
        assert [row["epoch"] for row in wanted[1]] == list(range(1, EPOCHS + 1))

        process = begin(plain, interrupted)
        process.send_signal(signal.SIGINT)
        said = process.communicate(timeout=240)[1]
        assert process.returncode == 130, said
        assert "continue with --resume" in said

        process = begin(plain, killed)
        process.kill()
        process.communicate(timeout=240)
        assert process.returncode == -signal.SIGKILL

        for root in (interrupted, killed):
            assert not (root / "trials" / "plain" / "result.json").exists()
            assert "--resume" in one_line(command("train", plain, "--root", root, "--threads", 1), 5, "STATE")
            again = command("train", plain, "--root", root, "--threads", 1, "--resume")
            assert again.code == 0, again.err
            assert outcome(root) == wanted
    finally:
        torch.set_num_threads(before)
