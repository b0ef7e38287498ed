"""The tracking server dies in the middle of a sweep: training must not notice, and nothing may be lost."""

import itertools
import json
import os
import statistics
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from icd.search import studies
from tests.crash.served import Drive, Harness
from tests.tiny import unpruned
from tests.tracking import Held, Server

pytestmark = pytest.mark.timeout(900)

OUTAGE_S = float(os.environ.get("ICD_OUTAGE_S", "20"))
# Windows with and without the server take turns, so that what else the machine does falls on both. The promise is 5 %;
# on a machine that others use windows of one kind differ by more than that, so their own spread is allowed on top.
WINDOWS = 3
PROMISE = 0.05
EPOCHS = 40


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    server = Server(tmp_path)
    server.start()
    yield server
    server.kill()


@pytest.fixture
def harness(server: Server) -> Harness:
    return Harness(MLFLOW_TRACKING_URI=server.uri)


def epoch_times(drive: Drive) -> list[float]:
    """When epochs ended, by the workers' own clocks, over all trials."""
    files = sorted(drive.folder.glob("trials/*/metrics.jsonl"))
    times = []
    for file in files:
        for line in file.read_text().splitlines():
            with_time = json.loads(line) if line.endswith("}") else {}
            times += [with_time["time"]] if with_time else []
    return sorted(times)


def test_an_outage_costs_no_time_and_no_number(server: Server, harness: Harness, tmp_path: Path) -> None:
    root = harness.root(tmp_path / "root")
    drive = harness.drive(root, changes=unpruned(EPOCHS, trials=1000))  # ended by the stop file
    drive.until_epoch(1, 1)
    windows: list[tuple[bool, float, float]] = []
    for _ in range(WINDOWS):
        begun = time.time()
        time.sleep(OUTAGE_S / WINDOWS)
        windows.append((True, begun, time.time()))
        server.kill()
        begun = time.time()
        time.sleep(OUTAGE_S / WINDOWS)
        windows.append((False, begun, time.time()))
        server.start()  # outside every window: a server that starts takes the processor from us
    (drive.folder / "stop").write_text("drain")
    assert drive.wait(240) == 0, drive.errors

    times = epoch_times(drive)
    rates: dict[bool, list[float]] = {True: [], False: []}
    gaps: dict[bool, float] = {True: 0.0, False: 0.0}
    for up, begun, ended in windows:
        inside = [moment for moment in times if begun <= moment <= ended]
        rates[up].append(len(inside) / (ended - begun))
        gaps[up] = max(gaps[up], *(later - earlier for earlier, later in itertools.pairwise([begun, *inside, ended])))
    with_server, without = statistics.mean(rates[True]), statistics.mean(rates[False])
    spread = statistics.stdev(rates[True]) / with_server
    figures = f"epochs a second {with_server:.2f} with and {without:.2f} without a server, {rates}; gaps {gaps}"
    print(figures)  # noqa: T201 - shown with pytest -rP
    assert min(rates[False]) > 0, figures
    assert without > (1 - PROMISE - 2 * spread) * with_server, figures
    assert gaps[False] <= 2 * gaps[True], figures

    assert "tracking unreachable, buffering" in drive.said
    assert "tracking flows again" in drive.said
    records = studies.find(root, "crash").records()
    assert {record.state for record in records} <= {"complete", "duplicate"}
    assert sum(len(record.curve) for record in records) == len(times)
    held = Held(server.database, studies.find(root, "crash").attributes["uid"])
    held.check_once(len(records), EPOCHS)
    assert set(held.status.values()) == {"FINISHED"}
    keys = [(run, key, step) for run, key, step, *_ in held.metrics]
    assert len(keys) == len(set(keys))
