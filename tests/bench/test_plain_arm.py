"""The plain arm of the benchmarks computes the loss that ours computes, or a ratio between them would mean nothing."""

import sys
from pathlib import Path

import pytest
import torch

from icd.methods import PAPER_ROWS, LiveOutputs, Step
from icd.models import build_model

sys.path.insert(0, str(Path(__file__).parents[2] / "bench"))
import plain


@pytest.mark.parametrize("method", ["KD", "DKD", "NKD", "SD-KD", "SD-DKD", "SD-NKD", "iCD-KD", "iCD-DKD", "iCD-NKD"])
def test_the_plain_loss_is_ours(method: str) -> None:
    images_BCHW = torch.randn(6, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    labels_B = torch.tensor([1, 5, 9, 3, 3, 0])
    student, teacher = build_model("resnet8x4", num_classes=10, seed=0), build_model("resnet14", num_classes=10, seed=1)
    with torch.no_grad():
        teacher.head.weight.mul_(20)
        outputs = [network.eval()(images_BCHW) for network in (student, teacher)]
        sides = [
            LiveOutputs(*output, network.head) for output, network in zip(outputs, (student, teacher), strict=True)
        ]
        built = PAPER_ROWS[method].build(None)
        ours = sum(built(*sides, Step(labels_B, torch.arange(6), 240, 0)).values())
        scales = (1, 2, 4)
        theirs = plain.loss_of(method, scales, outputs[0], outputs[1], (student.head, teacher.head), labels_B)
    assert theirs.item() == pytest.approx(float(ours), rel=1e-5)
