"""What steps, costs and engines promise whatever a trial trains."""

from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch

from icd.config.sweep import engine_asked
from icd.config.training import TrainingConfig
from icd.data.loader import Batch
from icd.data.views import CropFlip
from icd.errors import UsageError
from icd.losses import KnowledgeDistillation
from icd.methods import CellDistillation, Step
from icd.models import build_model
from icd.training import kernels, loop, step
from icd.training.step import live_outputs, precision

CUDA, CPU = torch.device("cuda"), torch.device("cpu")


def test_a_live_teacher_answers_in_full_precision_whatever_the_student_s() -> None:
    torch.manual_seed(0)
    teacher = build_model("resnet8", num_classes=10, seed=0).eval()
    batch = Batch(torch.randn(4, 3, 32, 32), torch.zeros(4, dtype=torch.int64), torch.arange(4))
    wanted = live_outputs(teacher, batch)
    cells_BPK = wanted.cells((1, 2, 4), 4)
    given = live_outputs(teacher, batch)
    with torch.no_grad(), precision("bf16", CPU):  # as a step of a bf16 trial asks it
        asked_BPK = given.cells((1, 2, 4), 4)
    assert torch.equal(asked_BPK, cells_BPK)
    assert torch.equal(given.logits_BK, wanted.logits_BK)


def test_tf32_rounds_in_the_student_s_forward_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    products, here, matmul = kernels.products, SimpleNamespace(type="cuda"), torch.backends.cuda.matmul
    monkeypatch.setattr(step, "products", lambda device, *, tf32: products(cast("Any", here), tf32=tf32))
    student, teacher = (build_model("resnet8", num_classes=10, seed=seed) for seed in (0, 1))
    seen: dict[str, list[bool]] = {"student": [], "teacher": []}
    for name, network in (("student", student), ("teacher", teacher.eval())):
        network.head.register_forward_hook(lambda *_, name=name: seen[name].append(matmul.allow_tf32))
    batch = Batch(torch.randn(4, 3, 32, 32), torch.zeros(4, dtype=torch.int64), torch.arange(4))
    training = TrainingConfig(
        augmentation=CropFlip(size=32), epochs=1, batch_size=4, lr=0.1, weight_decay=0.0, precision="tf32"
    )
    with products(cast("Any", here), tf32=True):  # as kernels() sets it on a GPU
        answers = step.live_outputs(teacher, batch)
        method = CellDistillation(base_loss=KnowledgeDistillation(), scales=(1, 2, 4), grid=4).build(cast("Any", None))
        moment = Step(batch.labels_B, batch.indices_B, 1, 0)
        step.TrainStep(student, method, training)(batch, answers, moment, 0.1)
    assert (seen["student"][0], any(seen["student"][1:]), any(seen["teacher"])) == (True, False, False)
    assert len(seen["student"]) == len(seen["teacher"]) == 2


def test_the_most_memory_of_an_epoch_is_that_epoch_s(monkeypatch: pytest.MonkeyPatch) -> None:
    peak = [9e9]
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda device: peak[0])
    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", lambda device: peak.__setitem__(0, 0.0))
    loop._forget_peak(CUDA)  # of the trial before, when another begins
    peak[0] = max(peak[0], 2e9)
    assert loop._costs(CUDA, 1.0, 2.0)["gpu/memory_gb"] == 2
    peak[0] = max(peak[0], 1e9)
    assert loop._costs(CUDA, 1.0, 2.0)["gpu/memory_gb"] == 1
    assert "gpu/memory_gb" not in loop._costs(CPU, 1.0, 2.0)


def test_an_option_goes_before_the_environment_and_that_before_the_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ICD_ENGINE", raising=False)
    assert (engine_asked(), engine_asked(None, "graph"), engine_asked("eager", "graph")) == ("auto", "graph", "eager")
    monkeypatch.setenv("ICD_ENGINE", "eager")
    assert (engine_asked(None, "graph"), engine_asked("graph")) == ("eager", "graph")
    monkeypatch.setenv("ICD_ENGINE", "device")
    with pytest.raises(UsageError, match="ICD_ENGINE must be auto, eager or graph, but got 'device'"):
        engine_asked()
