"""One attempt of a worker: what it leaves in its process, what it reads, and which faults are the GPU's."""

import gc
import weakref
from pathlib import Path
from typing import Any

import pytest
import torch

from icd.config.read_trial import read_trial
from icd.config.yaml import Document
from icd.models import Network
from icd.search.core.attempts import Attempt, AttemptResult, EpochReport
from icd.training import checkpoints, loop
from icd.worker import run_trial
from icd.worker.shared_inputs import SharedInputs

DOCUMENT = {
    "data": {"name": "digits100", "train_per_class": 2, "test_per_class": 1, "val_fraction": 0.5},
    "student": "resnet8",
    "method": "cross_entropy",
    "training": {"epochs": 3, "batch_size": 50},
}


def test_a_stopped_attempt_is_freed_and_the_next_reads_its_checkpoint_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = SharedInputs()
    students: list[weakref.ref[Network]] = []
    reads: list[str] = []
    first, load = loop.initial_student, checkpoints.load

    def watched(*args: Any) -> Network:
        student = first(*args)
        students.append(weakref.ref(student))
        return student

    def counted(path: Path) -> dict[str, Any]:
        reads.append(path.name)
        return load(path)

    def attempt(number: int, *, go: bool) -> AttemptResult:
        config = read_trial(Document(DOCUMENT, "test")).to_data()
        task = Attempt(number=0, attempt=number, config=config, sweep=str(tmp_path), root=str(tmp_path), threads=1)
        task.folder.mkdir(parents=True, exist_ok=True)
        (task.folder / "attempt").write_text(str(number))

        def send(epoch: EpochReport) -> bool:
            return go

        return run_trial.attempt(task, bench, send, progress=lambda *where: None)

    monkeypatch.setattr(loop, "initial_student", watched)
    monkeypatch.setattr(checkpoints, "load", counted)
    gc.collect()
    gc.disable()
    try:
        for number in (1, 2):
            assert attempt(number, go=False).kind == "stopped"
            assert [student() for student in students] == [None] * len(students)
    finally:
        gc.enable()
    reads.clear()
    done = attempt(3, go=True)
    assert (done.kind, done.spent) == ("complete", ""), done.reason
    assert len(reads) == 1
    assert done.result["engine"] == "eager"
    monkeypatch.setattr("icd.training.engine._failed", ["CUDA error"])  # the process is to end after its trial
    assert "CUDA error" in attempt(4, go=True).spent


@pytest.mark.parametrize(
    ("error", "is_gpu"),
    [
        (torch.AcceleratorError("an illegal memory access was encountered", 700), True),
        (RuntimeError("CUDA error: device-side assert triggered"), True),
        (RuntimeError("cuDNN error: CUDNN_STATUS_EXECUTION_FAILED"), True),
        (RuntimeError("shapes do not fit"), False),
        (ValueError("CUDA"), False),
    ],
)
def test_errors_of_the_gpu_and_its_libraries(error: Exception, is_gpu: bool) -> None:
    assert run_trial._of_the_gpu(error) == is_gpu
