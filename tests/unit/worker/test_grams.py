"""The matrices that a report draws are those that the cluster term compares."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from icd.config.read_trial import read_trial
from icd.config.yaml import Document
from icd.losses.cells import cell_logits, cluster_loss
from icd.models import build_model
from icd.training.kernels import kernels
from icd.worker import grams
from icd.worker.gram_file import GRAMS_NAME
from icd.worker.grams import gram_matrices, keep_grams
from tests.tiny import images, training


def test_gram_matrices_are_what_the_cluster_term_compares() -> None:
    torch.manual_seed(0)
    student, teacher = build_model("resnet8", num_classes=10), build_model("resnet20", num_classes=10)
    images_BCHW = torch.randn(3, 3, 32, 32)
    student_grams, teacher_grams = (gram_matrices(net, images_BCHW, (2, 4), 0.5) for net in (student, teacher))
    assert {scale: student_BMM.shape for scale, student_BMM in student_grams.items()} == {2: (3, 4, 4), 4: (3, 16, 16)}
    assert student.training
    assert teacher.training
    pairs = [(student_grams[scale], teacher_grams[scale]) for scale in (2, 4)]
    divergence = sum((t * (np.log(t) - np.log(s))).sum() / 3 for s, t in pairs)
    cells = [
        cell_logits(net(images_BCHW).features_BCHW, net.head, (1, 2, 4)) for net in (student.eval(), teacher.eval())
    ]
    expected = cluster_loss(cells[0], cells[1], (1, 2, 4), (1, 1, 1), temperature=0.5)
    torch.testing.assert_close(torch.as_tensor(divergence), expected, rtol=1e-3, atol=1e-7)


FLAGS = [(torch.backends.cuda.matmul, "allow_tf32"), (torch.backends.cudnn, "allow_tf32")]


@pytest.fixture
def in_tf32() -> Iterator[None]:
    """Let this process round as a training in TF32 does on a GPU."""
    before = [getattr(owner, name) for owner, name in FLAGS]
    for owner, name in FLAGS:
        setattr(owner, name, True)
    yield
    for (owner, name), flag in zip(FLAGS, before, strict=True):
        setattr(owner, name, flag)


@pytest.mark.parametrize("precision", ["tf32", "fp32", "bf16"])
def test_a_report_draws_what_no_precision_has_rounded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, in_tf32: None, precision: str
) -> None:
    def as_on_a_gpu(device: torch.device, asked: str) -> Any:
        return kernels(torch.device("cuda"), asked)

    seen = list[tuple[bool, ...]]()

    def looking(*given: Any) -> Any:
        seen.append(tuple(getattr(owner, name) for owner, name in FLAGS))
        return gram_matrices(*given)

    monkeypatch.setattr(grams, "kernels", as_on_a_gpu)
    monkeypatch.setattr(grams, "gram_matrices", looking)
    settings = {**training(1), "precision": precision}
    data, teacher = {"name": "npz", "path": "none.npz"}, {"arch": "resnet8", "training": training(1)}
    document = {"data": data, "teacher": teacher, "student": "resnet8", "method": "iCD-KD", "training": settings}
    config = read_trial(Document(document, "trial"))
    student, teacher_network = (build_model("resnet8", num_classes=10) for _ in range(2))
    keep_grams(tmp_path, config, images(), student, teacher_network, torch.device("cpu"))
    assert (tmp_path / GRAMS_NAME).exists()
    assert seen == [(False, False)] * 3
    assert all(getattr(owner, name) for owner, name in FLAGS), "put back"
