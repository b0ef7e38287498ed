"""One attempt of a worker: what it leaves in its process, what it reads, and which faults are the GPU's."""

import gc
import shutil
import weakref
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch

from icd.config.read_trial import read_trial
from icd.config.yaml import Document
from icd.models import Network
from icd.search.core.attempts import Attempt, AttemptResult, EpochReport, RunContext
from icd.training import checkpoints, loop
from icd.worker import run_trial
from icd.worker.trial_inputs import SharedInputs
from icd.worker.trial_metrics import stored_rows
from tests.tiny import views, write_images


def document_of(folder: Path, student: str = "resnet8") -> dict[str, Any]:
    return {
        "data": {"name": "npz", "path": str(write_images(folder / "images.npz", per_class=4)), "val_fraction": 0.5},
        "student": student,
        "method": "cross_entropy",
        "training": {"epochs": 3, "batch_size": 10, "augmentation": views(), "measure_every": 0},
    }


def attempt_of(document: dict[str, Any], folder: Path, number: int = 0, attempt: int = 1) -> Attempt:
    config = read_trial(Document(document, "test")).to_data()
    made = Attempt(number=number, attempt=attempt, runs={"": config}, context=RunContext(folder=folder, root=folder))
    made.folder.mkdir(parents=True, exist_ok=True)
    (made.folder / "attempt").write_text(str(attempt))
    return made


def test_a_stopped_attempt_is_freed_and_the_next_reads_its_checkpoint_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench, document = SharedInputs(), document_of(tmp_path)
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
        made = attempt_of(document, tmp_path, attempt=number)

        def send(epoch: EpochReport) -> bool:
            return go

        return run_trial.train_attempt(made, send, progress=lambda *where: None, inputs=bench)

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


def test_an_attempt_that_was_overtaken_adds_no_row(tmp_path: Path) -> None:
    made = attempt_of(document_of(tmp_path), tmp_path)

    def send(epoch: EpochReport) -> bool:
        (made.folder / "attempt").write_text("2")  # its driver takes it for dead
        return True

    result = run_trial.train_attempt(made, send, progress=lambda *where: None, inputs=SharedInputs())
    assert "attempt 2 has taken over from attempt 1" in result.reason
    assert [row["epoch"] for row in stored_rows(made.folder)] == [1]


def test_twenty_pruned_trials_leave_the_process_where_two_leave_it(tmp_path: Path) -> None:
    """A student of 1.2 million weights with its momenta and gradients is 15 MB: 4 of them kept would be too many."""
    bench, document, process = SharedInputs(), document_of(tmp_path, "resnet8x4"), psutil.Process()

    def pruned(number: int) -> int:
        done = run_trial.train_attempt(
            attempt_of(document, tmp_path, number), lambda _: False, progress=lambda *_: None, inputs=bench
        )
        assert done.kind == "stopped", done.reason
        shutil.rmtree(tmp_path / "trials")
        return int(process.memory_info().rss)

    after = [pruned(number) for number in range(20)]
    assert min(after[10:]) - after[1] < 50e6, [size // 10**6 for size in after]


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
