"""The tracking server dies in the middle of a sweep: training goes on, and nothing is lost or doubled.

What it costs is measured by bench/outage.py.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest

from icd.search.study import sweep_index
from tests.crash.served import Drive, Harness
from tests.tiny import unpruned
from tests.tracking import Held, Server

EPOCHS = 40


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    server = Server(tmp_path)
    server.start()
    yield server
    server.kill()


def trained(drive: Drive) -> int:
    """How many trials have all their epochs."""
    return sum(file.read_bytes().count(b"\n") == EPOCHS for file in drive.folder.glob("trials/*/metrics.jsonl"))


def test_an_outage_loses_and_doubles_nothing(server: Server, tmp_path: Path) -> None:
    harness = Harness(MLFLOW_TRACKING_URI=server.uri)
    root = harness.root(tmp_path / "root")
    drive = harness.drive(root, changes=unpruned(EPOCHS, trials=1000))  # ended by the stop file
    drive.until_epoch(0, 5)
    server.kill()
    drive.until(lambda: "tracking unreachable, " in drive.said)
    before = trained(drive)
    drive.until(lambda: trained(drive) >= before + 2)  # a whole trial begins and ends without a server
    server.start()
    drive.until(lambda: "tracking flows again" in drive.said)
    (drive.folder / "stop").write_text("drain")
    assert drive.wait() == 0, drive.errors

    records = sweep_index.find(root, "crash").records()
    assert {record.state for record in records} <= {"complete", "duplicate"}
    lines = sum(file.read_bytes().count(b"\n") for file in drive.folder.glob("trials/*/metrics.jsonl"))
    assert sum(len(record.curve) for record in records) == lines
    held = Held(server.database, sweep_index.find(root, "crash").attributes["uid"])
    held.check_once(len(records), EPOCHS)
    assert set(held.status.values()) == {"FINISHED"}
    keys = [(run, key, step) for run, key, step, *_ in held.metrics]
    assert len(keys) == len(set(keys))
