"""Trials that share a process are the trials they would have been alone, bit for bit."""

import json
import os
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from icd.config.read_trial import read_trial
from icd.config.sweep import Resources
from icd.config.trial import TrialConfig
from icd.config.yaml import Document
from icd.search.prepare import Preparation
from icd.search.processes import ProcessExecutor
from icd.search.quarantine import Complaint, Place
from icd.search.task import Epoch, Outcome, Task, trial_folder
from icd.trial.checkpoint import load
from tests.crash import harness as bare
from tests.crash.served import Harness, records

pytest.importorskip("ray")
from icd.search.ray_tune import RayExecutor

pytestmark = [pytest.mark.integration, pytest.mark.slow, pytest.mark.timeout(280)]

BASE: dict[str, Any] = {
    "data": {"name": "digits100", "train_per_class": 2, "test_per_class": 1, "val_share": 0.5},
    "teacher": {"arch": "resnet8", "weights": "train", "protocol": {"epochs": 1, "batch_size": 25}},
    "student": "resnet8",
}
PROTOCOL = {"epochs": 2, "batch_size": 25}
TRIALS: list[dict[str, Any]] = [
    {"method": {"row": "iCD-KD", "cluster_weight": 8}, "protocol": PROTOCOL},
    {"method": "KD", "protocol": {**PROTOCOL, "epochs": 6}},  # stopped after its first epoch
    {"method": {"row": "CRD", "num_negatives": 64}, "protocol": {**PROTOCOL, "precision": "bf16"}, "seed": 1},
    {"method": "SP", "protocol": {**PROTOCOL, "channels_last": False}},  # takes the place of the one that was stopped
    {"method": {"row": "iCD-DKD", "cluster_weight": 4}, "protocol": {**PROTOCOL, "lr": 1e30}},  # diverges
]
TABLED = (0, 1, 4)
STOPPED, DIVERGED = 1, 4


class Policy:
    """Gives the trials in order, stops one, and writes down who was under way when each epoch came."""

    def __init__(self, folder: Path, configs: list[dict[str, Any]], numbers: list[int]) -> None:
        self.folder, self.configs, self.waiting = folder, configs, list(numbers)
        self.running: set[int] = set()
        self.company: dict[int, set[int]] = {}
        self.ends: dict[int, Outcome] = {}
        self.stopping, self.left = False, 0
        self.quarantined: Mapping[Place, Complaint] = {}

    def next(self) -> Task | None:
        if not self.waiting:
            return None
        number = self.waiting.pop(0)
        self.running.add(number)
        trial_folder(self.folder, number).mkdir(parents=True, exist_ok=True)
        return Task(
            number=number,
            attempt=1,
            config=self.configs[number],
            sweep=str(self.folder),
            root=str(self.folder),
            threads=1,
            table="stream" if number in TABLED else "live",
        )

    def epoch(self, epoch: Epoch) -> bool:
        self.company.setdefault(epoch.number, set()).update(self.running - {epoch.number})
        return epoch.number != STOPPED

    def end(self, outcome: Outcome) -> None:
        assert outcome.number not in self.ends
        self.running.remove(outcome.number)
        self.ends[outcome.number] = outcome

    @property
    def finished(self) -> bool:
        return not (self.running or self.waiting)


def without_timings(folder: Path) -> list[dict[str, Any]]:
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    timed = ("time", "seconds/train", "seconds/epoch", "teacher/images")  # the last one says who came first
    return [{name: value for name, value in row.items() if name not in timed} for row in rows]


@pytest.fixture(scope="module")
def configs() -> list[TrialConfig]:
    return [read_trial(Document({**BASE, **trial}, "test")) for trial in TRIALS]


@pytest.fixture(scope="module")
def alone(configs: list[TrialConfig], tmp_path_factory: pytest.TempPathFactory) -> Policy:
    """One trial after the other, in a root with a table of its own."""
    root = tmp_path_factory.mktemp("alone")
    executor = ProcessExecutor([""], root / "logs")
    request = Preparation(configs=[config.to_data() for config in configs], root=str(root), threads=1, probe=False)
    try:
        prepared = executor.prepare(request, lambda line: None, lambda: False)
        alone = Policy(root, [prepared.pin(config).to_data() for config in configs], list(range(len(TRIALS))))
        executor.run(alone, lambda: None)
    finally:
        executor.close()
    assert not any(alone.company.values())
    return alone


def make(name: str, folder: Path) -> ProcessExecutor | RayExecutor:
    """An executor with one process of three trials."""
    if name == "process":
        return ProcessExecutor([""] * 3, folder / "logs", pack=3)
    resources = Resources(trials_per_process=3, max_concurrent=3, cpus_per_trial=0.5)
    return RayExecutor(resources, folder, announce=lambda line: None)


@pytest.mark.parametrize("name", ["process", "ray"])
def test_packed_trials_are_those_trials_alone(name: str, alone: Policy, tmp_path: Path) -> None:
    (tmp_path / "teachers").symlink_to(alone.folder / "teachers")  # but a table of its own
    packed = Policy(tmp_path, alone.configs, list(range(len(TRIALS))))
    executor = make(name, tmp_path)
    try:
        executor.run(packed, lambda: None)
    finally:
        executor.close()
    kinds = {number: outcome.kind for number, outcome in packed.ends.items()}
    assert kinds == {0: "complete", STOPPED: "stopped", 2: "complete", 3: "complete", DIVERGED: "diverged"}
    assert packed.company[0], "they did run side by side"
    assert packed.company[3], "the place of the trial that was stopped was filled"
    assert list((tmp_path / "tables").glob("*/*")), "they shared a table"
    for number in range(len(TRIALS)):
        here, there = (trial_folder(folder, number) for folder in (tmp_path, alone.folder))
        assert packed.ends[number].kind == alone.ends[number].kind
        assert packed.ends[number].reason == alone.ends[number].reason
        if number == DIVERGED:
            continue
        assert without_timings(here) == without_timings(there)
        if number != STOPPED:
            assert packed.ends[number].result["student_sha256"] == alone.ends[number].result["student_sha256"]
            assert (here / "curves.png").exists()
        else:
            (mine,), (theirs,) = (list((folder / "checkpoints").iterdir()) for folder in (here, there))
            ours, other = load(mine)["student"], load(theirs)["student"]
            assert all(ours[name].equal(other[name]) for name in other)


# A whole sweep, killed

PACKED = {"trials_per_process": 3, "cpus_per_trial": 0.5, "max_concurrent": 3, "hang_seconds": 60}
SWEEP: dict[str, Any] = {
    "protocol": {**bare.SWEEP["protocol"], "epochs": 8},
    "ranges": {"scales": {"choices": [[1], [1, 2]]}, "base_loss": {"kd": {"temperature": {"choices": [2, 4]}}}},
    "sampler": "grid",
    "pruner": "none",
    "enqueue": [],
    "budget": {},
}


@pytest.fixture(scope="module")
def harness(tmp_path_factory: pytest.TempPathFactory) -> Harness:
    return Harness(ICD_TABLES=str(tmp_path_factory.mktemp("tables")))


def test_a_pack_that_is_killed_twice_ends_like_the_sweep_nobody_touched(harness: Harness, tmp_path: Path) -> None:
    """Undisturbed: one trial after the other. Killed: three in a process, which dies in the middle, twice."""
    undisturbed = harness.drive(harness.root(tmp_path / "undisturbed"), changes=SWEEP)
    assert undisturbed.wait() == 0, undisturbed.errors
    expected = bare.table(undisturbed.root)
    assert [row["state"] for row in expected] == ["complete"] * 4

    drive = harness.drive(harness.root(tmp_path / "killed"), changes={**SWEEP, "resources": PACKED})
    for epoch in (2, 5):
        drive.until_epoch(0, epoch)
        (worker,) = drive.workers
        os.kill(worker, signal.SIGKILL)
        drive.until(lambda worker=worker: drive.workers and drive.workers != [worker])
    assert drive.wait() == 0, drive.errors
    assert bare.table(drive.root) == expected
    assert bare.tracking_faults(drive.root, expected) == []
    for number in range(3):
        assert f"trial {number}: process killed (signal 9); see " in drive.said
    attempts = [record.attempts for record in records(drive.root)]
    assert attempts[0] == 3
    assert attempts[3] <= 2
    assert sum(bare.repeated_epochs(drive.root).values()) <= sum(attempts) - 4, "an epoch at most for each that fell"
