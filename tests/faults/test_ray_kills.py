"""Drivers and workers killed at random moments under a real sweep: it ends like one that nobody touched."""

import os
import random
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from tests.crash.harness import table, tracking_faults
from tests.crash.served import Hold
from tests.integration.ray_nodes import ROOT, command_of, descendants, is_alive, started_at, wait_for
from tests.integration.ray_sweeps import document, start
from tests.support.plugins import write_plugin

pytestmark = pytest.mark.timeout(900)

EPOCHS = 240  # long enough that most kills find a trial in training
TRIALS = 3
KILLS = 4
SEED = 5
STANDING = """
import sys
from dataclasses import replace
from pathlib import Path

sys.path.insert(0, {code!r})
from icd.worker import run_trial
from tests.crash.harness import stand_still

train = run_trial._Runs._train


def standing(self, *given):
    def step(epoch, step, steps):
        if step == steps:
            stand_still(Path({root!r}), self.attempt.context.folder.name, self.attempt.number, epoch)
        self.step(epoch, step, steps)

    return train(replace(self, step=step), *given)


run_trial._Runs._train = standing
"""


def trainers(driver: int) -> list[int]:
    """The workers of a driver that run trials."""
    return [pid for pid in descendants(driver) if command_of(pid).startswith("ray::ImplicitFunc")]


def wait_or_end(driver: subprocess.Popen[str], seconds: float) -> bool:
    """Wait; whether the driver still runs."""
    try:
        driver.wait(seconds)
    except subprocess.TimeoutExpired:
        return True
    return False


def kill_a_driver(driver: subprocess.Popen[str], chance: random.Random, seen: set[tuple[int, str]]) -> bool:
    """Kill it anywhere between its first import and the middle of training."""
    running = wait_or_end(driver, chance.uniform(1, 20))
    if running:
        seen.update((pid, started_at(pid)) for pid in descendants(driver.pid))
        driver.kill()
        driver.wait()
    return running


def kill_a_worker(driver: subprocess.Popen[str], chance: random.Random, seen: set[tuple[int, str]]) -> bool:
    """Kill one that runs trials."""
    wait_for(lambda: bool(trainers(driver.pid)) or driver.poll() is not None, 400)
    running = wait_or_end(driver, chance.uniform(0, 4))
    pids: list[int] = []
    while running and not pids:  # for a moment there may be none, or one without its title
        pids, running = trainers(driver.pid), wait_or_end(driver, 0.01)
    if running:
        seen.update((pid, started_at(pid)) for pid in descendants(driver.pid))
        os.kill(chance.choice(pids), signal.SIGKILL)
    return running


def test_random_kills_change_nothing(tmp_path: Path) -> None:
    plugin = write_plugin(tmp_path)  # Ray starts the workers, so that only a plugin can make one stand
    plugin.write_text(plugin.read_text() + STANDING.format(code=str(ROOT), root=str(tmp_path)))
    sweep = document(tmp_path, epochs=EPOCHS, trials=TRIALS, max_concurrent=1)
    loss = {"cosine": {"weight": {"low": 0.5, "high": 2}}}  # a trial has the plugins that it names
    sweep = {**sweep, "plugins": [str(plugin)], "ranges": {**sweep["ranges"], "base_loss": loss}}
    hold = Hold(tmp_path, TRIALS - 1, EPOCHS)  # it cannot be over before the kills are
    reference = start(tmp_path / "undisturbed", sweep, "process")
    chance, seen = random.Random(SEED), set[tuple[int, str]]()
    kills: list[Any] = []
    root = tmp_path / "killed"
    driver = start(root, sweep, "ray")
    try:
        while len(kills) < KILLS:
            of_driver = not len(kills) % 2
            if driver.poll() is not None:
                assert kills, "it ended before it was killed"
                assert driver.returncode == -signal.SIGKILL, (root / "driver.log").read_text()
                driver = start(root, sweep, "ray")
            act = kill_a_driver if of_driver else kill_a_worker
            assert act(driver, chance, seen), f"ended after {kills}: {(root / 'driver.log').read_text()}"
            kills.append((time.time(), "driver" if of_driver else "worker"))
        hold.release()
        assert driver.wait(300) == 0, (root / "driver.log").read_text()
        assert reference.wait(300) == 0
    finally:
        for process in (driver, reference):
            if process.poll() is None:
                process.kill()
                process.wait()
    found, expected = table(root), table(tmp_path / "undisturbed")
    assert len(expected) == TRIALS
    assert all(row["student_sha256"] and row["state"] == "complete" for row in expected)
    assert found == expected
    assert tracking_faults(root, found) == []
    wait_for(lambda: not any(is_alive(pid) and started_at(pid) == start for pid, start in seen), 120)
    assert not list((root / "sweeps" / "crash" / "trials").glob("*/stack-*.txt"))
