"""Several trials in one of Ray's processes: they come and go one by one, and share its fate as with plain processes."""

import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from icd.config.sweep import Resources
from icd.search.task import trial_folder
from tests.crash.harness import table, tracking_faults
from tests.integration.ray_fakes import EPOCHS, FakePolicy, fake_attempt, runner
from tests.integration.ray_nodes import command_of, descendants, is_alive, wait_for
from tests.integration.ray_sweeps import document, start

pytest.importorskip("ray")
from icd.search.ray_tune import RayExecutor

pytestmark = [pytest.mark.integration, pytest.mark.slow, pytest.mark.timeout(600)]

PACKED = {"trials_per_process": 3, "cpus_per_trial": 0.5, "max_concurrent": 3}


@pytest.fixture(scope="module")
def said() -> list[str]:
    return []


@pytest.fixture(scope="module")
def executor(tmp_path_factory: pytest.TempPathFactory, said: list[str]) -> Iterator[RayExecutor]:
    folder = tmp_path_factory.mktemp("sweep")
    executor = RayExecutor(Resources(**PACKED), folder, announce=said.append, attempt=fake_attempt)
    yield executor
    executor.close()


@pytest.fixture
def run(executor: RayExecutor, tmp_path: Path) -> Callable[..., FakePolicy]:
    return runner(executor, tmp_path)


def one_after_another(acts: list[Callable[[FakePolicy], None]]) -> Callable[[FakePolicy], None]:
    """Do the next one when three attempts run side by side, each has told an epoch, and the last one has worked."""
    ends: list[int] = []

    def tick(policy: FakePolicy) -> None:
        told = {(epoch.number, epoch.attempt) for epoch in policy.epochs}
        running = {(number, policy.tried[number]) for number in policy.running}
        if acts and len(running) == 3 and running <= told and len(policy.ends) not in ends:
            ends.append(len(policy.ends))
            acts.pop(0)(policy)

    return tick


def pid_of(policy: FakePolicy) -> int:
    return int(policy.epochs[-1].metrics["pid"])


def test_a_place_is_filled_at_once_and_stopping_one_disturbs_nobody(
    run: Callable[..., FakePolicy], said: list[str], capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    told: list[float] = []

    def tick(policy: FakePolicy) -> None:
        told.extend([time.monotonic()] * (len(policy.epochs) - len(told)))

    capfd.readouterr()
    policy = run([{"protocol": {"epochs": 100}}, *[{"seconds": 0.02}] * 8], tick, stop_after={2: 1, 3: EPOCHS})
    assert sorted(outcome.number for outcome in policy.ends) == list(range(9))
    assert [o.number for o in policy.ends if o.kind == "stopped"] == [2]
    assert {o.kind for o in policy.ends if o.number != 2} == {"complete"}
    assert policy.most == 3
    assert len({epoch.metrics["pid"] for epoch in policy.epochs}) == 1
    assert (told[-1] - told[0]) / 100 < 0.2, "an epoch of nothing takes no longer than an answer does"
    assert capfd.readouterr() == ("", "")
    assert len(said) == 1
    assert said[0].endswith("3 trials at a time, up to 3 in a process")
    assert not list((tmp_path / "logs").glob("stack-*"))


def mailboxes() -> list[int]:
    return [pid for pid in descendants(os.getpid()) if command_of(pid).startswith("ray::Mailbox")]


def test_whatever_happens_to_a_process_its_trials_go_on(run: Callable[..., FakePolicy], tmp_path: Path) -> None:
    """One attempt is given up, the process is killed, the next one told to go; then the letters to a third are lost."""
    pids: list[int] = []

    def give_up(policy: FakePolicy) -> None:
        (trial_folder(tmp_path, 1) / "attempt").write_text("9")

    def signalled(number: int) -> Callable[[FakePolicy], None]:
        def act(policy: FakePolicy) -> None:
            pids.append(pid_of(policy))
            os.kill(pids[-1], number)

        return act

    def lose_letters(policy: FakePolicy) -> None:
        (mailbox,) = mailboxes()
        os.kill(mailbox, signal.SIGKILL)

    acts = [give_up, signalled(signal.SIGKILL), signalled(signal.SIGTERM), lose_letters]
    policy = run([{"protocol": {"epochs": 40}, "seconds": 0.1}] * 3, one_after_another(acts), attempts=9)
    assert acts == []
    assert policy.kinds(1) == ["lost", "killed", "preempted", "complete"]
    assert policy.kinds(0) == policy.kinds(2) == ["killed", "preempted", "complete"]
    reasons = {outcome.kind: outcome.reason for outcome in policy.ends}
    assert reasons["lost"] == "attempt 1 was given up"
    assert reasons["killed"].startswith("process killed")
    assert reasons["preempted"] == "SIGTERM"
    assert len(pids) == 2
    assert pid_of(policy) not in pids, "no process is used again"
    assert [policy.faults.counts(number).get("killed") for number in range(3)] == [1, 1, 1]
    wait_for(lambda: not mailboxes(), 10)


def test_one_that_hangs_ends_its_process(run: Callable[..., FakePolicy], tmp_path: Path) -> None:
    busy = {"protocol": {"epochs": 40}, "seconds": 0.1}
    policy = run([busy, {"do": "hang"}, busy], hang_seconds=2)
    assert [(o.number, o.kind) for o in policy.ends[:3]] == [(1, "hang"), (0, "lost"), (2, "lost")]
    assert [o.kind for o in policy.ends[3:]] == ["complete"] * 3
    (stack,) = (tmp_path / "logs").glob("stack-*")
    assert policy.ends[0].reason == f"no progress for 2 s; stack in {stack}"
    assert policy.ends[1].reason == "its neighbour, trial 1, hung"
    assert "ray_fakes.py" in stack.read_text()


# A whole sweep

EPOCHS_OF_SWEEP = 40
GRID: dict[str, Any] = {
    "ranges": {"scales": {"choices": [[1], [1, 2]]}, "base_loss": {"kd": {"temperature": {"choices": [2, 4, 8]}}}},
    "objective": {"metric": "val/loss", "direction": "minimize"},  # few images: accuracies would be equal
    "sampler": "grid",
    "budget": {},
}
PRUNER = {"name": "successive_halving", "min_epochs": 30, "reduction": 3, "control_share": 0.0}


def workers(driver: int) -> list[int]:
    return [pid for pid in descendants(driver) if command_of(pid).startswith("ray::ImplicitFunc")]


def rows(root: Path, number: int) -> int:
    path = trial_folder(root / "sweeps" / "crash", number) / "metrics.jsonl"
    return path.read_bytes().count(b"\n") if path.exists() else 0


@pytest.mark.cluster  # two minutes: make cluster
def test_a_pack_that_is_killed_stopped_and_told_to_go_ends_like_trials_alone(tmp_path: Path) -> None:
    """Alone: one trial after the other, to the end. Packed: three in a process, and what looks poor is pruned."""
    sweep = {**document(tmp_path, epochs=EPOCHS_OF_SWEEP, trials=1, max_concurrent=1), **GRID}
    packed = {**sweep, "resources": {**sweep["resources"], **PACKED}, "pruner": PRUNER}
    alone = start(tmp_path / "alone", sweep, "process")
    root = tmp_path / "packed"
    driver = start(root, packed, "ray")

    def until(number: int, epoch: int) -> None:
        wait_for(lambda: rows(root, number) >= epoch or driver.poll() is not None, 240)
        assert driver.poll() is None, (root / "driver.log").read_text()

    try:
        until(0, 5)
        (worker,) = workers(driver.pid)
        os.kill(worker, signal.SIGKILL)
        until(0, 12)
        os.kill(driver.pid, signal.SIGINT)
        assert driver.wait(60) == 130
        wait_for(lambda: not is_alive(worker), 10)
        driver = start(root, packed, "ray")
        until(2, 25)
        (worker,) = workers(driver.pid)
        os.kill(worker, signal.SIGTERM)
        assert driver.wait(240) == 0
        assert alone.wait(240) == 0
    finally:
        for process in (driver, alone):
            if process.poll() is None:
                process.kill()
                process.wait()
    log = (root / "driver.log").read_text()
    found, expected = table(root), table(tmp_path / "alone")
    assert [row["state"] for row in expected] == ["complete"] * 6
    assert [row["number"] for row in found] == list(range(6)), log
    assert {row["state"] for row in found} == {"complete", "pruned"}, log
    for mine, theirs in zip(found, expected, strict=True):
        assert mine["params"] == theirs["params"]
        assert mine["curve"] == {epoch: theirs["curve"][epoch] for epoch in mine["curve"]}
        assert list(mine["curve"]) == list(range(1, len(mine["curve"]) + 1))
        if mine["state"] == "complete":
            assert mine["student_sha256"] == theirs["student_sha256"]
    assert tracking_faults(root, found) == []
    assert log.count("process killed (") == 3, log
    assert "SIGTERM: " in log
