"""Ray Tune as an executor on a cluster that others started: joining, refusing, losing a node, a real trial."""

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import ray

from icd.config.sweep import Resources
from icd.errors import DataError, SetupError
from icd.search.core.attempts import Attempt
from icd.search.core.preparation import PreflightRequest
from icd.search.executors.local.executor import LocalExecutor
from icd.search.executors.ray.executor import RayExecutor
from tests.integration.ray_fakes import FakePolicy, fake_attempt, pids_of, start_driver
from tests.integration.ray_nodes import cluster, is_alive, wait_for


@pytest.fixture(scope="module")
def address(token: Path) -> Iterator[str]:
    with cluster(token, cpus=2) as (address, _):
        yield address


def join(address: str, folder: Path, said: list[str], **more: Any) -> RayExecutor:
    return RayExecutor(Resources(**more), folder, address=address, announce=said.append, attempt=fake_attempt)


def test_a_wrong_address_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SetupError, match=r"no Ray cluster answers at 127\.0\.0\.1:1 .*RAY_AUTH_TOKEN_PATH"):
        join("127.0.0.1:1", tmp_path, [])
    with pytest.raises(SetupError, match="no Ray cluster answers at nonsense"):
        join("nonsense", tmp_path, [])
    with pytest.raises(SetupError, match="is an address of Ray Client, which cannot drive a sweep"):
        join("ray://127.0.0.1:10001", tmp_path, [])


def test_another_part_of_ray_is_refused(address: str, tmp_path: Path) -> None:
    executor = join(address, tmp_path, [])
    node = ray.nodes()[0]
    executor.close()
    raylet = f"{node['NodeManagerAddress']}:{node['NodeManagerPort']}"
    with pytest.raises(SetupError, match="no Ray cluster answers at "):
        join(raylet, tmp_path, [])  # not what ray.init says after a quarter of an hour


def test_a_request_that_never_fits_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SetupError, match=r"no trial fits: it needs 1000 CPUs and 0 GPUs .* 1 node"):
        join("local", tmp_path, [], cpus_per_trial=1000)


def test_a_cluster_is_joined_and_left_as_it_was(
    address: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    for _ in range(2):  # a second executor in the same process too
        said: list[str] = []
        executor = join(address, tmp_path, said)
        try:
            assert "joined at" in said[0]
            assert address.rpartition(":")[2] in said[0]
            assert "1 node, 2 CPUs, 0 GPUs; 2 trials at a time" in said[0]
            policy = FakePolicy(tmp_path, [{}, {"do": "kill"}])
            executor.run(policy, lambda: None)
        finally:
            executor.close()
        assert policy.kinds(0) == ["complete"]
        assert policy.kinds(1) == ["killed", "complete"]
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("have", ["another", "none"])
def test_without_the_token_it_is_refused(address: str, tmp_path: Path, have: str) -> None:
    other = tmp_path / "token"
    other.write_text("f" * 64)
    with pytest.MonkeyPatch.context() as patch:
        if have == "another":
            patch.setenv("RAY_AUTH_TOKEN_PATH", str(other))
        else:
            patch.delenv("RAY_AUTH_TOKEN_PATH")
            patch.delenv("RAY_AUTH_MODE")
            patch.setenv("HOME", str(tmp_path))
        with pytest.raises(SetupError, match=r"cannot be joined.*RAY_AUTH_TOKEN_PATH"):
            join(address, tmp_path, [])


def test_auto_joins_what_the_environment_names(address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", address)
    said: list[str] = []
    join("auto", tmp_path, said).close()
    assert "joined at" in said[0]
    assert address.rpartition(":")[2] in said[0]


def test_a_killed_driver_leaves_no_worker_on_the_cluster(address: str, tmp_path: Path) -> None:
    driver = start_driver(tmp_path, trials=2, epochs=1000, seconds=0.5, address=address)
    wait_for(lambda: len(pids_of(tmp_path)) > 0, 240)
    os.kill(driver.pid, signal.SIGKILL)
    driver.communicate(timeout=240)
    pids = pids_of(tmp_path)
    wait_for(lambda: not any(is_alive(pid) for pid in pids), 120)


def test_trials_of_a_lost_node_finish_on_another(token: Path, tmp_path: Path) -> None:
    said: list[str] = []
    killed: list[float] = []
    with cluster(token, None) as (address, nodes):
        executor = join(address, tmp_path, said)
        assert "2 nodes, 2 CPUs" in said[0]
        policy = FakePolicy(tmp_path, [{"training": {"epochs": 12}, "seconds": 0.5} for _ in range(4)])

        def tick() -> None:
            if not killed and len({epoch.number for epoch in policy.epochs}) >= 2:
                killed.append(time.monotonic())
                nodes[1].kill()

        try:
            executor.run(policy, tick)
        finally:
            executor.close()
    assert killed
    lost = [outcome for outcome in policy.ends if outcome.kind != "complete"]
    assert [outcome.kind for outcome in lost] == ["lost"]
    assert "node " in lost[0].reason
    assert [policy.kinds(number)[-1] for number in range(4)] == ["complete"] * 4
    assert policy.tried[lost[0].number] == 2


def test_a_node_without_the_folder_is_named(token: Path, tmp_path: Path) -> None:
    if subprocess.run(["unshare", "-m", "true"], check=False, capture_output=True).returncode:
        pytest.skip("a node cannot be given another view of the disk here")
    with cluster(token, tmp_path) as (address, _):
        executor = join(address, tmp_path, [])
        try:
            hosts = executor.cluster.hosts()
            assert len(hosts) == 2
            with pytest.raises(SetupError, match=r"not every node can work in .*No such file.*--root") as caught:
                executor.prepare(PreflightRequest(configs=[], root=str(tmp_path)), lambda text: None, lambda: False)
            assert sum(node[:8] in str(caught.value) for node in hosts) == 1
        finally:
            executor.close()
    assert not list(tmp_path.iterdir())


# A real trial

DATA = {"name": "digits100", "train_per_class": 2, "test_per_class": 1, "val_fraction": 0.5}
TEACHER = {"arch": "resnet14", "weights": "train", "training": {"epochs": 1, "batch_size": 50}}
PROTOCOL = {"epochs": 2, "batch_size": 50}


class RealPolicy(FakePolicy):
    """Trials of a real configuration."""

    def next_attempt(self) -> Attempt | None:
        attempt = super().next_attempt()
        if attempt is None:
            return None
        context = replace(attempt.context, threads=1)
        return replace(attempt, runs={"": self.trials[attempt.number]}, context=context)


def test_a_real_trial_gives_what_plain_processes_give(tmp_path: Path) -> None:
    from icd.config.read_trial import read_trial
    from icd.config.yaml import Document

    documents = [
        {"data": DATA, "teacher": TEACHER, "student": "resnet8", "method": "iCD-KD", "training": PROTOCOL, "seed": seed}
        for seed in (0, 1)
    ]
    configs = [read_trial(Document(document, "test")) for document in documents]
    digests, values = [], []
    for name in ("process", "ray"):
        folder = tmp_path / name
        said: list[str] = []
        request = PreflightRequest(configs=[config.to_data() for config in configs], root=str(folder), threads=1)
        executor: Any
        if name == "ray":
            executor = RayExecutor(Resources(), folder, announce=said.append)
        else:
            executor = LocalExecutor([""], folder / "logs")
        try:
            prepared = executor.prepare(request, said.append, lambda: False)
            assert any(line.startswith("teacher epoch 1") for line in said)
            policy = RealPolicy(folder, [prepared.pin(config).to_data() for config in configs], hang_seconds=300)
            executor.run(policy, lambda: None)
            if name == "ray":
                missing = PreflightRequest(
                    configs=[{**configs[0].to_data(), "data": {"name": "cifar100"}}], root=str(folder), threads=1
                )
                with pytest.raises(Exception, match="cifar100") as caught:
                    executor.prepare(missing, said.append, lambda: False)
                assert getattr(caught.value, "exit_code", None) == DataError.exit_code
        finally:
            executor.close()
        assert policy.kinds(0) == policy.kinds(1) == ["complete"], policy.ends
        ends = sorted(policy.ends, key=lambda outcome: outcome.number)
        digests.append([outcome.result["student_sha256"] for outcome in ends])
        values.append([(epoch.number, epoch.epoch, epoch.metrics["val/top1"]) for epoch in policy.epochs])
    assert digests[0] == digests[1]
    assert sorted(values[0]) == sorted(values[1])
    assert len(values[0]) == 4
