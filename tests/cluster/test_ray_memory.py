"""Ray's memory monitor kills all trials at once: they end for memory, go on later, and the sweep is done."""

import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cluster.meminfo import Memory
from tests.crash.harness import table, tracking_faults
from tests.integration.ray_nodes import cluster, secret, wait_for
from tests.integration.ray_sweeps import document, start
from tests.support.needs import need

pytestmark = pytest.mark.timeout(900)

TRIALS = 2
MONITOR = {"RAY_memory_usage_threshold": "0.9", "RAY_memory_monitor_refresh_ms": "250"}


@pytest.fixture
def memory(tmp_path: Path) -> Memory:
    memory = Memory(tmp_path / "meminfo")
    need("mounts", memory.can_be_entered, "needs the right to mount")
    memory.leave(0.5)
    return memory


@pytest.fixture
def started() -> Iterator[list[subprocess.Popen[str]]]:
    """Drivers, which are ended."""
    drivers: list[subprocess.Popen[str]] = []
    yield drivers
    for driver in drivers:
        driver.kill()
        driver.wait()


def outlive(driver: subprocess.Popen[str], root: Path, memory: Memory) -> str:
    """Let memory run out once trials have finished epochs, and come back; gives what the driver has said."""
    log = root / "driver.log"

    def until(condition: Any, seconds: float) -> None:
        wait_for(lambda: condition() or driver.poll() is not None, seconds)
        assert driver.poll() is None, log.read_text()

    begun = root / "sweeps" / "crash" / "trials"
    until(lambda: len(list(begun.glob("*/metrics.jsonl"))) == TRIALS, 300)
    memory.leave(0.02)
    until(lambda: log.read_text().count("killed for memory by Ray") == TRIALS, 120)
    time.sleep(5)  # nothing begins yet, so nothing more is killed: a trial may try again once
    memory.leave(0.5)
    assert driver.wait(600) == 0, log.read_text()
    rows = table(root)
    assert [row["state"] for row in rows] == ["complete"] * TRIALS
    assert tracking_faults(root, rows) == []
    return log.read_text()


def test_a_sweep_outlives_rays_memory_monitor(tmp_path: Path, memory: Memory, started: Any) -> None:
    sweep, root = document(tmp_path, epochs=600, trials=TRIALS, max_concurrent=TRIALS), tmp_path / "root"
    started.append(start(root, sweep, "ray", environment=MONITOR, before=memory.enter))
    said = outlive(started[0], root, memory)
    assert said.count("; retry 1/1 alone from epoch") == TRIALS, said


def test_a_sweep_outlives_the_monitor_of_one_of_two_nodes(tmp_path: Path, memory: Memory, started: Any) -> None:
    sweep, root = document(tmp_path, epochs=600, trials=TRIALS, max_concurrent=TRIALS), tmp_path / "root"
    small: dict[str, Any] = {"environment": MONITOR, "before": memory.enter}
    with secret() as token, cluster(token, None, cpus=TRIALS, head_cpus=0, **small) as (address, _):
        started.append(start(root, sweep, "ray", address))
        said = outlive(started[0], root, memory)
    assert said.count("; retry 1/1") == TRIALS, said
