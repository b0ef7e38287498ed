"""Ray nodes that are taken back, sick GPUs, and room that is asked for: with raylets and workers of our own."""

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import ray

from icd.config.sweep import Resources
from icd.errors import SetupError
from icd.search.core.attempts import trial_folder
from icd.search.executors.ray.executor import RayExecutor
from tests.integration.ray_fakes import FakePolicy, fake_attempt
from tests.integration.ray_nodes import cluster

pytestmark = pytest.mark.timeout(600)

LONG = {"training": {"epochs": 20}, "seconds": 0.5}


@pytest.fixture(scope="module")
def address(token: Path) -> Iterator[str]:
    """One node with two processors and, as it believes, two GPUs of a type."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_OVERRIDE_LABELS", json.dumps({"ray.io/accelerator-type": "A100-40G"}))
        with cluster(token, cpus=2, gpus=2) as (address, _):
            yield address


def join(address: str, folder: Path, **resources: Any) -> RayExecutor:
    return RayExecutor(
        Resources(**resources), folder, address=address, announce=lambda text: None, attempt=fake_attempt
    )


def gpus_of(folder: Path, number: int) -> list[list[int]]:
    """The GPUs of a trial's attempts that began, in their order."""
    return [json.loads(path.read_text()) for path in sorted(trial_folder(folder, number).glob("gpu-*"))]


def test_a_sick_gpu_is_kept_from_all_others(address: str, tmp_path: Path) -> None:
    executor = join(address, tmp_path)
    policy = FakePolicy(tmp_path, [{"sick": 1}] * 8, attempts=9)
    held: list[int] = []

    def tick() -> None:
        held.append(len(executor.tracker.holding) if executor.tracker else 0)
        if held[-1]:
            (tmp_path / "go").touch()  # only now do the trials on the other GPU end

    try:
        executor.run(policy, tick)
    finally:
        executor.close()
    assert [place.gpu for place in policy.quarantined] == ["1"]
    (said,) = policy.said
    assert said.startswith("GPU 1 of host ")
    assert "3 trials failed there (gpu) and none has finished an epoch there since; it gets no more trials" in said
    kinds = [outcome.kind for outcome in policy.ends]
    assert kinds.count("gpu") == 3
    assert kinds.count("complete") == 8
    assert kinds.count("stopped") <= 2, "who came there too is sent on, and then nobody comes any more"
    assert max(held) == 1
    assert all(gpus_of(tmp_path, number)[-1] == [0] for number in range(8))


def test_nothing_but_sick_gpus_ends_the_sweep(token: Path, tmp_path: Path) -> None:
    with cluster(token, gpus=1) as (address, _):
        executor = join(address, tmp_path, gpus_per_trial=1)
        policy = FakePolicy(tmp_path, [{"sick": 0}] * 4, attempts=9)
        try:
            with pytest.raises(SetupError, match=r"no location is left for a trial: GPU 0 of .*3 trials failed there"):
                executor.run(policy, lambda: None)
        finally:
            executor.close()
    assert [outcome.kind for outcome in policy.ends if outcome.kind != "stopped"] == ["gpu", "gpu", "gpu"]


def test_a_sweep_is_kept_to_one_type_of_device(address: str, tmp_path: Path) -> None:
    with pytest.raises(SetupError, match="no trial fits: it needs 1 CPUs and 1 GPUs of type 'H200' on one node"):
        join(address, tmp_path, device="H200")
    executor = join(address, tmp_path, device="a100", max_concurrent=1)
    policy = FakePolicy(tmp_path, [{}])
    try:
        assert executor.cluster.labels == {"ray.io/accelerator-type": "in(A100-40G)"}
        executor.run(policy, lambda: None)
    finally:
        executor.close()
    assert policy.kinds() == ["complete"]


def test_a_worker_that_gets_a_sigterm_ends_its_epoch(address: str, tmp_path: Path) -> None:
    executor = join(address, tmp_path, gpus_per_trial=0)
    policy = FakePolicy(tmp_path, [LONG, LONG])
    told: list[int] = []

    def tick() -> None:
        if not told and sum(epoch.number == 0 for epoch in policy.epochs) == 2:
            told.append(int((trial_folder(tmp_path, 0) / "pid").read_text()))
            os.kill(told[0], signal.SIGTERM)

    try:
        executor.run(policy, tick)
    finally:
        executor.close()
    assert policy.kinds(0) == ["preempted", "complete"]
    assert policy.kinds(1) == ["complete"]
    first, second = (outcome for outcome in policy.ends if outcome.number == 0)
    assert first.reason == "SIGTERM"
    assert [first.result["pid"]] == told
    assert second.result["pid"] not in told, "the process is not used again"
    assert policy.faults.counts(0) == {}


def test_the_autoscaler_sees_the_trials_that_wait_for_a_place(address: str, tmp_path: Path) -> None:
    """Two processors, five trials at a time: the other three are placement groups that wait."""
    executor = join(address, tmp_path, gpus_per_trial=0, max_concurrent=5, autoscale=True)
    policy = FakePolicy(tmp_path, [{"training": {"epochs": 3}, "seconds": 0.5}] * 7)
    waiting: list[int] = []

    def tick() -> None:
        states = [group["state"] for group in ray.util.placement_group_table().values()]
        waiting.append(states.count("PENDING"))

    try:
        executor.run(policy, tick)
    finally:
        executor.close()
    assert 3 in waiting
    assert policy.most == 5
    assert [outcome.kind for outcome in policy.ends] == ["complete"] * 7


def test_trials_of_nodes_that_are_taken_back_go_on_elsewhere(token: Path, tmp_path: Path) -> None:
    """One node is told to go, and lasts until its trial has ended its epoch; of another the raylet alone is told."""
    with cluster(token, None, None) as (address, nodes):
        executor = join(address, tmp_path)
        policy = FakePolicy(tmp_path, [{**LONG, "sick": None}] * 3)
        told: dict[int, str] = {}

        def tick() -> None:
            if told or len(executor.progress()) < 3:  # all are in an epoch, which waits to be let go
                return
            assert executor.tracker is not None
            by_pid = {running.pid: running.attempt.number for running in executor.tracker.running.values()}
            ours = {node: next(by_pid[pid] for pid in nodes[node].pids() if pid in by_pid) for node in (1, 2)}
            told.update({ours[1]: "drained", ours[2]: "ended"})
            os.kill(nodes[1].process.pid, signal.SIGTERM)
            os.kill(nodes[2].raylet, signal.SIGTERM)
            (tmp_path / "go").touch()

        try:
            executor.run(policy, tick)
        finally:
            executor.close()
    ends = {how: [o for o in policy.ends if o.number == number] for number, how in told.items()}
    assert {how: [outcome.kind for outcome in own] for how, own in ends.items()} == {
        "drained": ["preempted", "complete"],
        "ended": ["preempted", "complete"],
    }
    assert ends["drained"][0].reason.endswith("is taken back"), "it ended its epoch and said so itself"
    assert ends["ended"][0].reason.endswith("was taken back")
    assert all(policy.faults.counts(number) == {} for number in range(3))
