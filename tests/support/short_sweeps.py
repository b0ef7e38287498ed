"""``icd sweep`` in a process of its own, on a sweep of seconds."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

import icd
from tests.studies import changed

ENVIRONMENT = {"PYTHONPATH": str(Path(icd.__file__).parents[1]), "OMP_NUM_THREADS": "1"}


def file(folder: Path, **parts: Any) -> Path:
    """Write a sweep of two trials of one epoch."""
    usual_parts: dict[str, Any] = {
        "training": {"epochs": 1, "batch_size": 50},
        "pruner": None,
        "budget": {"trials": 2},
        "resources": {"max_concurrent": 1},
    }
    document = changed(**{**usual_parts, **parts})
    path = folder / "sweep.yaml"
    path.write_text(yaml.safe_dump(document))
    return path


@contextmanager
def begun(*words: object, before: tuple[str, ...] = ()) -> Iterator["subprocess.Popen[str]"]:
    """Start the command in a process of its own, which does not outlive the test; ``before`` starts it, if given."""
    command = [*before, sys.executable, "-m", "icd.cli.main", *(str(word) for word in words)]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, env={**os.environ, **ENVIRONMENT}) as process:
        try:
            yield process
        finally:
            process.send_signal(signal.SIGTERM)


def signal_when(root: Path, pattern: str, process: "subprocess.Popen[str]", number: int) -> None:
    """Send a signal as soon as the root holds a file of this pattern."""
    deadline = time.monotonic() + 500
    while not any(root.glob(pattern)):
        assert process.poll() is None, "it ended before"
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.05)
    process.send_signal(number)
