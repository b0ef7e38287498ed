"""Ray's processes that hang, freeze and break, and whole drivers that are stopped and killed."""

import json
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import ray
from ray.air.execution._internal import event_manager
from ray.exceptions import ObjectStoreFullError, OutOfMemoryError

from icd.config.sweep import Resources
from icd.search.core.messages import EpochDone
from icd.search.executors.ray.executor import RayExecutor
from tests.integration.ray_fakes import FakePolicy, fake_attempt, pids_of, runner, start_driver
from tests.integration.ray_nodes import is_alive, wait_for


@pytest.fixture(scope="module")
def said() -> list[str]:
    return []


@pytest.fixture(scope="module")
def executor(tmp_path_factory: pytest.TempPathFactory, said: list[str]) -> Iterator[RayExecutor]:
    executor = RayExecutor(Resources(), tmp_path_factory.mktemp("sweep"), announce=said.append, attempt=fake_attempt)
    yield executor
    executor.close()


@pytest.fixture
def run(executor: RayExecutor, tmp_path: Path) -> Callable[..., FakePolicy]:
    return runner(executor, tmp_path)


def test_whatever_ray_raises_ends_one_attempt(run: Callable[..., FakePolicy], monkeypatch: pytest.MonkeyPatch) -> None:
    """Two trials have their second answer replaced by an exception that Tune does not know."""
    raised: dict[int, Exception] = {
        0: OutOfMemoryError("the node running low on memory"),
        1: ObjectStoreFullError("no room"),
    }
    monkeypatch.setattr("icd.search.executors.ray.exit_reasons._REST_S", 0.0)
    get = ray.get

    def get_or_raise(future: Any) -> Any:
        answer = get(future)
        message = answer.get("message") if isinstance(answer, dict) else None
        if isinstance(message, EpochDone) and message.report.epoch == 2 and message.report.number in raised:
            raise raised.pop(message.report.number)
        return answer

    monkeypatch.setattr(event_manager, "ray", SimpleNamespace(get=get_or_raise, wait=ray.wait))
    policy = run([{}] * 3)
    assert not raised
    ends = {number: policy.kinds(number) for number in range(3)}
    assert ends == {0: ["memory", "complete"], 1: ["killed", "complete"], 2: ["complete"]}
    assert any("ObjectStoreFullError" in outcome.reason for outcome in policy.ends)


@pytest.mark.parametrize("do", ["kill", "exit"])
def test_a_killed_process_is_tried_again(
    run: Callable[..., FakePolicy], do: str, capfd: pytest.CaptureFixture[str]
) -> None:
    policy = run([{"do": do}, {}])
    assert policy.kinds(0) == ["killed", "complete"]
    assert [outcome.attempt for outcome in policy.ends if outcome.number == 0] == [1, 2]
    assert "process killed" in next(outcome.reason for outcome in policy.ends if outcome.kind == "killed")
    assert capfd.readouterr() == ("", "")


def test_a_process_is_not_used_again_after_a_device_error(run: Callable[..., FakePolicy]) -> None:
    policy = run([{"do": "gpu"}, {"do": "diverged"}], attempts=2)
    assert policy.kinds(0) == ["gpu", "complete"]
    assert policy.kinds(1) == ["diverged"]
    broken = next(outcome.result["pid"] for outcome in policy.ends if outcome.kind == "gpu")
    later = policy.ends[[outcome.kind for outcome in policy.ends].index("gpu") + 1 :]
    assert broken not in {outcome.result["pid"] for outcome in later}


def test_a_hanging_trial_leaves_its_stack(run: Callable[..., FakePolicy], tmp_path: Path) -> None:
    policy = run([{"do": "hang"}], hang_seconds=2)
    assert policy.kinds() == ["hang", "complete"]
    assert "no progress for 2 s" in policy.ends[0].reason
    assert "ray_fakes.py" in (tmp_path / "trials" / "0000" / "stack-1.txt").read_text()


def test_a_frozen_process_is_killed(run: Callable[..., FakePolicy], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("icd.search.executors.attempt_tracker.LATE_S", 1.0)
    policy = run([{"do": "freeze"}], hang_seconds=2)
    assert policy.kinds() == ["hang", "complete"]
    assert "does not answer" in policy.ends[0].reason


def test_a_worker_whose_attempt_was_given_up_ends_itself(
    run: Callable[..., FakePolicy], executor: RayExecutor, tmp_path: Path
) -> None:
    def tick(policy: FakePolicy) -> None:
        if policy.epochs and policy.running and executor.tracker is not None:
            policy.attempts = 1
            executor.tracker.give_up("its node does not answer")

    policy = run([{"training": {"epochs": 1}, "seconds": 1}, {"training": {"epochs": 300}, "seconds": 1}], tick)
    assert policy.kinds(1) == ["lost"]
    wait_for(lambda: not any(is_alive(pid) for pid in pids_of(tmp_path)), 60)
    assert not list(tmp_path.glob("trials/*/stack-*.txt"))


def test_a_driver_is_silent_and_leaves_nothing(tmp_path: Path) -> None:
    driver = start_driver(tmp_path, trials=4, epochs=3, seconds=0.05)
    output, _ = driver.communicate(timeout=240)
    assert driver.returncode == 0, output
    assert output == ""
    result = json.loads((tmp_path / "result.json").read_text())
    assert result["kinds"] == ["complete"] * 4
    wait_for(lambda: not any(is_alive(pid) for pid in result["pids"]), 120)
    assert not list(Path("/tmp").glob(f"icd-ray-{driver.pid}-*"))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_stops_after_the_epoch(tmp_path: Path, number: int) -> None:
    driver = start_driver(tmp_path, trials=4, epochs=1000, seconds=0.5)
    wait_for(lambda: len(pids_of(tmp_path)) > 0, 240)
    os.killpg(driver.pid, number)  # as a terminal does: Ray's processes get it too
    output, _ = driver.communicate(timeout=240)
    assert driver.returncode == 0, output
    assert output.strip() == "icd: stopping after the current epoch and saving a checkpoint (again to stop now)"
    kinds = set(json.loads((tmp_path / "result.json").read_text())["kinds"])
    assert kinds <= ({"stopped", "preempted"} if number == signal.SIGTERM else {"stopped"})


def test_a_killed_driver_leaves_no_worker(tmp_path: Path) -> None:
    driver = start_driver(tmp_path, trials=2, epochs=1000, seconds=0.5)
    wait_for(lambda: len(pids_of(tmp_path)) > 0, 240)
    os.kill(driver.pid, signal.SIGKILL)
    driver.communicate(timeout=240)
    pids = pids_of(tmp_path)
    wait_for(lambda: not any(is_alive(pid) for pid in pids), 120)


def test_ctrl_c_stops_after_the_epoch(tmp_path: Path) -> None:
    driver = start_driver(tmp_path, trials=4, epochs=1000, seconds=0.5)
    wait_for(lambda: len(pids_of(tmp_path)) > 0, 240)
    os.killpg(driver.pid, signal.SIGINT)  # as a terminal does: Ray's processes get it too
    output, _ = driver.communicate(timeout=240)
    assert driver.returncode == 0, output
    assert output.strip() == "icd: stopping after the current epoch and saving a checkpoint (again to stop now)"
    assert set(json.loads((tmp_path / "result.json").read_text())["kinds"]) == {"stopped"}
