"""Whole sweeps with real drivers and workers, and what happens to them."""

import os
import re
import signal
import sqlite3
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from icd.search.study import sweep_index
from tests.crash import harness as bare
from tests.crash.served import Drive, Harness, Hold, alive, records
from tests.tiny import unpruned

LONG = unpruned(12, trials=2)


@pytest.fixture
def root(harness: Harness, tmp_path: Path) -> Path:
    return harness.root(tmp_path / "root")


@pytest.fixture(scope="module")
def undisturbed(harness: Harness, tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """The table of LONG when nothing happens to it."""
    root = harness.root(tmp_path_factory.mktemp("undisturbed") / "root")
    assert harness.drive(root, changes=LONG).wait() == 0
    return bare.table(root)


def resume_equals(drive: Drive, expected: list[dict[str, Any]], **more: Any) -> None:
    again = drive.harness.drive(drive.root, changes=LONG, **more)
    assert again.wait() == 0, again.errors
    assert bare.table(drive.root) == expected
    assert bare.tracking_faults(drive.root, expected) == []


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_stops_after_the_epoch_and_a_resume_equals_the_undisturbed(
    root: Path, harness: Harness, undisturbed: list[dict[str, Any]], number: int, code: int
) -> None:
    hold = Hold(root, 0, 4)
    drive = harness.drive(root, changes=LONG)
    with hold.reached(drive):
        workers = drive.workers
        drive.interrupt(number)
    assert drive.wait() == code, drive.errors
    assert not [worker for worker in workers if alive(worker)]
    assert [record.state for record in records(root)] == ["running"]
    resume_equals(drive, undisturbed)
    assert bare.repeated_epochs(root) == {}


@pytest.mark.parametrize("how", ["drain", "now"])
def test_the_stop_file(root: Path, harness: Harness, undisturbed: list[dict[str, Any]], how: str) -> None:
    hold = Hold(root, 0, 4)
    drive = harness.drive(root, changes=LONG)
    with hold.reached(drive):
        (drive.folder / "stop").write_text(how)
    assert drive.wait() == 0
    assert [record.state for record in records(root)] == [{"drain": "complete", "now": "running"}[how]]
    assert sweep_index.find(root, "crash").attributes["stopped_by"] == "stop"
    resume_equals(drive, undisturbed)
    assert bare.repeated_epochs(root) == {}


def test_a_worker_that_gets_a_sigterm_ends_its_epoch_and_costs_nothing(
    root: Path, harness: Harness, undisturbed: list[dict[str, Any]]
) -> None:
    hold = Hold(root, 0, 4)
    drive = harness.drive(root, changes={**LONG, "resources": {**bare.SWEEP["resources"], "retries": 0}})
    with hold.reached(drive):
        (worker,) = drive.workers
        os.kill(worker, signal.SIGTERM)
    assert drive.wait() == 0, drive.errors
    assert drive.said.count("trial 0: SIGTERM: stopped after epoch 4 of 12; goes on from epoch 4") == 1
    assert bare.table(root) == undisturbed
    assert bare.repeated_epochs(root) == {}
    assert [record.attempts for record in records(root)] == [2, 1]
    assert "faults" not in records(root)[0].attributes
    assert not alive(worker), "it is not used again"


def test_a_sigterm_with_no_time_left_goes_back_to_the_last_checkpoint(
    root: Path, harness: Harness, undisturbed: list[dict[str, Any]]
) -> None:
    changes = {**LONG, "resources": {**bare.SWEEP["resources"], "retries": 0, "grace_seconds": 0}}
    holds = [Hold(root, 0, epoch) for epoch in (4, 8)]
    drive = harness.drive(root, changes=changes)
    for hold in holds:
        with hold.reached(drive):
            (worker,) = drive.workers
            os.kill(worker, signal.SIGTERM)
    assert drive.wait() == 0, drive.errors
    pattern = r"trial 0: SIGTERM: no time was left for the rest of epoch (\d+).*; goes on from epoch (\d+)"
    assert re.findall(pattern, drive.said) == [("4", "3"), ("8", "7")], drive.said
    assert bare.table(root) == undisturbed
    assert sum(bare.repeated_epochs(root).values()) <= 2
    assert "faults" not in records(root)[0].attributes


def test_a_killed_worker_that_is_started_from_nothing(
    root: Path, harness: Harness, undisturbed: list[dict[str, Any]]
) -> None:
    drive = harness.drive(root, changes=LONG, fork_workers=False)
    drive.until_epoch(0, 3)
    os.kill(drive.workers[0], signal.SIGKILL)
    assert drive.wait() == 0, drive.errors
    assert "retry 1/3 from epoch" in drive.said
    assert bare.table(root) == undisturbed


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    disk = tmp_path / "disk"
    disk.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(disk)], capture_output=True, text=True, check=False
    )
    if done.returncode:
        pytest.skip(f"a small disk cannot be mounted here: {done.stderr.strip()}")
    yield disk
    subprocess.run(["umount", "-l", str(disk)], check=True)


def test_a_full_disk_pauses_the_sweep_and_loses_nothing(
    small_disk: Path, harness: Harness, undisturbed: list[dict[str, Any]]
) -> None:
    root = harness.root(small_disk / "root")
    hold = Hold(root, 0, 3)
    drive = harness.drive(root, changes=LONG)
    with hold.reached(drive), (small_disk / "ballast").open("wb", buffering=0) as ballast:
        try:
            while True:
                ballast.write(bytes(4096))
        except OSError:
            pass
    assert drive.wait() == 3, drive.errors
    assert "SETUP: " in drive.errors
    assert "No space left on device" in drive.errors or "database or disk is full" in drive.errors
    assert "icd resume" in drive.errors
    assert "Traceback" not in drive.errors
    with sqlite3.connect(root / "study.db") as database:
        assert database.execute("pragma integrity_check").fetchone() == ("ok",)
    database.close()
    assert [record.state for record in records(root)] == ["running"]
    committed = dict(records(root)[0].curve)
    assert list(committed) == [1, 2]
    subprocess.run(["mount", "-o", "remount,size=64m", str(small_disk)], check=True)
    resume_equals(drive, undisturbed)
    assert committed.items() <= records(root)[0].curve.items()


def test_no_worker_outlives_a_killed_driver(root: Path, harness: Harness, undisturbed: list[dict[str, Any]]) -> None:
    hold = Hold(root, 0, 4)
    drive = harness.drive(root, changes=LONG)
    with hold.reached(drive):
        workers = drive.workers
        assert workers
        drive.signal(signal.SIGKILL)
    drive.wait()
    drive.until(lambda: not [worker for worker in workers if alive(worker)])
    resume_equals(drive, undisturbed)
    assert sum(bare.repeated_epochs(root).values()) <= 1


def test_a_killed_worker_costs_one_epoch_at_most(
    root: Path, harness: Harness, undisturbed: list[dict[str, Any]]
) -> None:
    holds = [Hold(root, 0, epoch) for epoch in (4, 8)]
    drive = harness.drive(root, changes=LONG)
    for hold in holds:
        with hold.reached(drive):
            (worker,) = drive.workers
            os.kill(worker, signal.SIGKILL)
    assert drive.wait() == 0, drive.errors
    assert "trial 0: process killed (signal 9); see " in drive.said
    assert "retry 1/3 from epoch" in drive.said
    assert "retry 2/3 from epoch" in drive.said
    assert bare.table(root) == undisturbed
    assert sum(bare.repeated_epochs(root).values()) <= 2
    assert records(root)[0].attempts == 3
