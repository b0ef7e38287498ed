"""Ray's memory monitor kills all trials at once: they end for memory, go on later, and the sweep is done."""

import time
from pathlib import Path

import pytest

from tests.cluster.meminfo import Memory
from tests.crash.harness import table
from tests.integration.ray_nodes import wait_for
from tests.integration.ray_sweeps import document, start
from tests.support.needs import need

pytestmark = pytest.mark.timeout(900)

TRIALS = 2
MONITOR = {"RAY_memory_usage_threshold": "0.9", "RAY_memory_monitor_refresh_ms": "250"}


def test_a_sweep_outlives_rays_memory_monitor(tmp_path: Path) -> None:
    memory = Memory(tmp_path / "meminfo")
    need("mounts", memory.can_be_entered, "needs the right to mount")
    memory.leave(0.5)
    sweep = document(tmp_path, epochs=200, trials=TRIALS, max_concurrent=TRIALS)
    root = tmp_path / "root"
    driver = start(root, sweep, "ray", environment=MONITOR, before=memory.enter)
    log = root / "driver.log"
    trials = root / "sweeps" / str(sweep["name"]) / "trials"
    try:
        wait_for(lambda: bool(list(trials.glob("*/metrics.jsonl"))) or driver.poll() is not None, 300)
        memory.leave(0.02)
        wait_for(lambda: "killed for memory by Ray" in log.read_text() or driver.poll() is not None, 120)
        time.sleep(5)  # while there is no room nothing begins, so nothing more is killed: a trial may try again once
        memory.leave(0.5)
        assert driver.wait(600) == 0, log.read_text()
    finally:
        if driver.poll() is None:
            driver.kill()
            driver.wait()
    rows = table(root)
    assert [row["state"] for row in rows] == ["complete"] * TRIALS
    assert log.read_text().count("; retry 1/1 alone from epoch") >= 1, log.read_text()
