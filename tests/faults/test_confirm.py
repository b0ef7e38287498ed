"""Confirmations whose drivers and workers are killed and stopped say what the undisturbed one says."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import asdict
from functools import partial
from pathlib import Path

import pytest

from icd.search.study.sweep_study import LIST_NUMBERS
from tests.crash import harness as bare
from tests.crash.served import Harness, Hold, alive
from tests.support.confirmations import RUNS, SEARCH, check, confirm, held


@pytest.fixture
def root(searched: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(searched, tmp_path / "root"))


def all_gone(workers: list[int]) -> bool:
    return not any(alive(worker) for worker in workers)


@pytest.mark.parametrize("point", [3, 90])
def test_a_driver_that_dies_at_a_durable_operation(root: Path, harness: Harness, confirmed: Path, point: int) -> None:
    assert confirm(harness, root, crash_at=point).wait() == bare.CRASHED
    again = confirm(harness, root)
    assert again.wait() == 0, again.errors
    check(root, confirmed, kills=1)


def test_kills_at_random_moments(root: Path, harness: Harness, confirmed: Path) -> None:
    chance, hold = random.Random(1), Hold(root, LIST_NUMBERS + RUNS - 1, 1)  # it cannot be over before the kills are
    drive = confirm(harness, root)
    for kill in range(5):
        time.sleep(chance.uniform(0.2, 1.5))
        workers = drive.workers
        if kill % 2 and workers:
            os.kill(workers[0], signal.SIGKILL)
            continue
        drive.signal(signal.SIGKILL)
        assert drive.wait() == -signal.SIGKILL, drive.errors
        drive.until(partial(all_gone, workers))
        drive = confirm(harness, root)
    with hold.reached(drive):
        pass
    assert drive.wait() == 0, drive.errors
    check(root, confirmed, kills=5)


def test_a_signal_leaves_something_to_go_on_with(root: Path, harness: Harness, confirmed: Path) -> None:
    hold = Hold(root, LIST_NUMBERS + 1, 1)
    drive = confirm(harness, root)
    with hold.reached(drive):
        drive.interrupt()
    assert drive.wait() == 128 + signal.SIGINT, drive.errors
    left = held(root)
    assert not left.finished
    assert left.arm("one").runs or left.arms[0].runs
    kept = [row for row in bare.table(root, "confirm") if row["state"] == "complete"]
    again = harness.drive(root, changes=SEARCH, confirm={})
    assert again.wait() == 0, again.errors
    assert bare.table(root, "confirm")[: len(kept)] == kept
    check(root, confirmed, kills=1)


def test_the_command_on_ray(root: Path, confirmed: Path) -> None:
    words = [
        "confirm",
        "crash",
        "--top",
        "1",
        "--seeds",
        "2",
        "--against",
        "one",
        "--against",
        "two",
        "--root",
        str(root),
        "--json",
    ]
    environment = {**os.environ, "PYTHONPATH": str(bare.ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-m", "icd.cli.main", *words], capture_output=True, text=True, check=False, env=environment
    )
    assert done.returncode == 0, done.stderr[-3000:]
    told = json.loads(done.stdout)
    assert told == json.loads(json.dumps(asdict(held(root))))
    assert (told["finished"], told["test_evaluations"], told["winner"]) == (True, 2 * 6, held(confirmed).winner)
    rows, expected = bare.table(root, "confirm"), bare.table(confirmed, "confirm")
    by_run = {(row["arm"], row["seed"]): row["values"] for row in expected}
    assert len(rows) == 6
    assert all(row["values"] == by_run[row["arm"], row["seed"]] for row in rows)
    assert bare.tracking_faults(root, bare.table(root) + rows) == []
    folders = [root / "sweeps" / "crash" / "trials" / f"{row['number']:04d}" for row in rows]
    assert not [path for folder in folders for path in folder.glob("gram*")], "no test image is shown"
