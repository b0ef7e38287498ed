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
from tests.integration.ray_fakes import EPOCHS, FakePolicy, fake_attempt
from tests.integration.ray_nodes import command_of, descendants, is_alive, wait_for
from tests.integration.ray_sweeps import document, start

pytest.importorskip("ray")
from icd.search.ray_tune import RayExecutor

pytestmark = [pytest.mark.integration, pytest.mark.slow, pytest.mark.timeout(280)]

PACKED = {"trials_per_process": 3, "cpus_per_trial": 0.5, "max_concurrent": 3}
LONG = {"protocol": {"epochs": 12}, "seconds": 0.1}


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
    executor.folder = tmp_path

    def run(
        trials: list[dict[str, Any]], tick: Callable[[FakePolicy], None] = lambda policy: None, **more: Any
    ) -> FakePolicy:
        stop_after = more.pop("stop_after", {})
        policy = FakePolicy(tmp_path, trials, **more)
        policy.stop_after = stop_after
        executor.run(policy, lambda: tick(policy))
        assert not policy.running
        return policy

    return run


def once(act: Callable[[FakePolicy], None]) -> Callable[[FakePolicy], None]:
    """Act when three trials run side by side and each has told an epoch."""
    done: list[bool] = []

    def tick(policy: FakePolicy) -> None:
        told = {epoch.number for epoch in policy.epochs}
        if not done and len(policy.running) == 3 and policy.running <= told:
            done.append(True)
            act(policy)

    return tick


def pid_of(policy: FakePolicy) -> int:
    return int(policy.epochs[-1].metrics["pid"])


def test_a_place_is_filled_at_once_and_stopping_one_disturbs_nobody(
    run: Callable[..., FakePolicy], said: list[str], capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    capfd.readouterr()
    policy = run([LONG, *[{"seconds": 0.02}] * 8, LONG], stop_after={2: 1, 3: EPOCHS, 9: 2})
    assert sorted(outcome.number for outcome in policy.ends) == list(range(10))
    assert {o.number for o in policy.ends if o.kind == "stopped"} == {2, 9}
    assert {o.kind for o in policy.ends if o.number not in (2, 9)} == {"complete"}
    assert policy.most == 3
    assert len({epoch.metrics["pid"] for epoch in policy.epochs}) == 1
    assert capfd.readouterr() == ("", "")
    assert len(said) == 1
    assert said[0].endswith("3 trials at a time, up to 3 in a process")
    assert not list((tmp_path / "logs").glob("stack-*"))


def test_an_answer_does_not_wait_for_others(run: Callable[..., FakePolicy]) -> None:
    began: list[float] = []

    def tick(policy: FakePolicy) -> None:
        if policy.epochs and not began:
            began.append(time.monotonic())

    policy = run([{"protocol": {"epochs": 50}}] * 3, tick)
    took = time.monotonic() - began[0]
    assert len(policy.epochs) == 150
    assert took / 50 < 0.2, "an epoch of nothing costs no more than a few answers"


def test_all_end_with_a_killed_process_and_go_on_together(run: Callable[..., FakePolicy]) -> None:
    policy = run([LONG] * 4, once(lambda policy: os.kill(pid_of(policy), signal.SIGKILL)))
    assert [policy.kinds(number) for number in range(3)] == [["killed", "complete"]] * 3
    assert policy.kinds(3) == ["complete"]
    assert all(o.reason.startswith("process killed") for o in policy.ends if o.kind == "killed")
    assert policy.most == 3


def test_a_sigterm_lets_all_end_their_epoch(run: Callable[..., FakePolicy]) -> None:
    policy = run([LONG] * 4, once(lambda policy: os.kill(pid_of(policy), signal.SIGTERM)))
    assert [policy.kinds(number) for number in range(3)] == [["preempted", "complete"]] * 3
    assert policy.kinds(3) == ["complete"]
    assert {o.reason for o in policy.ends if o.kind == "preempted"} == {"SIGTERM"}
    old, new = ({o.result["pid"] for o in policy.ends if o.kind == kind} for kind in ("preempted", "complete"))
    assert len(old) == 1
    assert old.isdisjoint(new), "the process is not used again"
    assert all(policy.faults.counts(number) == {} for number in range(4))


@pytest.mark.parametrize(("do", "kind", "what"), [("hang", "hang", "hung"), ("gpu", "gpu", "had an error of CUDA")])
def test_one_that_spoils_its_process_ends_it_for_all(
    run: Callable[..., FakePolicy], tmp_path: Path, do: str, kind: str, what: str
) -> None:
    policy = run([LONG, {**LONG, "do": do}, LONG], hang_seconds=2)
    assert [(o.number, o.kind) for o in policy.ends[:3]] == [(1, kind), (0, "lost"), (2, "lost")]
    assert policy.ends[1].reason == f"its neighbour, trial 1, {what}"
    assert [o.kind for o in policy.ends[3:]] == ["complete"] * 3
    if do == "hang":
        (stack,) = (tmp_path / "logs").glob("stack-*")
        assert policy.ends[0].reason == f"no progress for 2 s; stack in {stack}"
        assert "ray_fakes.py" in stack.read_text()


def test_an_attempt_that_was_given_up_ends_alone(run: Callable[..., FakePolicy], tmp_path: Path) -> None:
    def give_up(policy: FakePolicy) -> None:
        (trial_folder(tmp_path, 1) / "attempt").write_text("9")
        policy.attempts = 1

    policy = run([{"protocol": {"epochs": 40}, "seconds": 0.1}] * 3, once(give_up))
    assert [policy.kinds(number) for number in range(3)] == [["complete"], ["lost"], ["complete"]]
    assert next(o.reason for o in policy.ends if o.kind == "lost") == "attempt 1 was given up"


def mailboxes(driver: int) -> list[int]:
    return [pid for pid in descendants(driver) if command_of(pid).startswith("ray::Mailbox")]


def test_a_mailbox_that_is_killed_loses_nothing(run: Callable[..., FakePolicy]) -> None:
    killed: list[int] = []

    def kill(policy: FakePolicy) -> None:
        killed.extend(mailboxes(os.getpid()))
        os.kill(killed[0], signal.SIGKILL)

    policy = run([LONG] * 5, once(kill))
    assert len(killed) == 1
    assert [o.kind for o in policy.ends] == ["complete"] * 5
    assert len(policy.epochs) == 5 * 12
    wait_for(lambda: not mailboxes(os.getpid()), 10)


# A whole sweep

EPOCHS_OF_SWEEP = 40
GRID: dict[str, Any] = {
    "space": {"scales": {"choices": [[1], [1, 2]]}, "base_loss": {"kd": {"temperature": {"choices": [2, 4, 8]}}}},
    "sampler": "grid",
    "budget": {},
}
PRUNER = {"name": "median", "min_epochs": 30, "startup_trials": 2, "control_share": 0.0}


def workers(driver: int) -> list[int]:
    return [pid for pid in descendants(driver) if command_of(pid).startswith("ray::ImplicitFunc")]


def rows(root: Path, number: int) -> int:
    path = trial_folder(root / "sweeps" / "crash", number) / "metrics.jsonl"
    return path.read_bytes().count(b"\n") if path.exists() else 0


def test_a_pack_that_is_killed_stopped_and_told_to_go_ends_like_trials_alone(tmp_path: Path) -> None:
    """Alone: one trial after the other, to the end. Packed: three in a process, and worse than the median is pruned."""
    sweep = {**document(tmp_path, epochs=EPOCHS_OF_SWEEP, trials=1, max_concurrent=1), **GRID}
    packed = {**sweep, "resources": {**sweep["resources"], **PACKED}, "pruner": PRUNER}
    alone = start(tmp_path / "alone", sweep, "process")
    root = tmp_path / "packed"
    driver = start(root, packed, "ray")

    def until(number: int, epoch: int) -> None:
        wait_for(lambda: rows(root, number) >= epoch or driver.poll() is not None, 120)
        assert driver.poll() is None, (root / "driver.log").read_text()

    try:
        until(0, 5)
        (worker,) = workers(driver.pid)
        os.kill(worker, signal.SIGKILL)
        until(0, 12)
        os.kill(driver.pid, signal.SIGINT)
        assert driver.wait(60) == 0
        wait_for(lambda: not is_alive(worker), 10)
        driver = start(root, packed, "ray")
        until(2, 25)
        (worker,) = workers(driver.pid)
        os.kill(worker, signal.SIGTERM)
        assert driver.wait(120) == 0
        assert alone.wait(120) == 0
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
