"""Measures against values worked out by hand."""

import math
from typing import cast

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from icd.data.loader import Batch
from icd.models import Network, build_model
from icd.models.output import Output
from icd.training.evaluation import calibration_error, evaluate


def logits_of(probabilities: list[list[float]]) -> Tensor:
    return torch.tensor(probabilities, dtype=torch.float64).log()


class Same(nn.Module):
    """A network whose answer is what it is shown."""

    def forward(self, images_BK: Tensor) -> Output:
        return Output(logits_BK=images_BK, features_BCHW=images_BK, block_BCHW=images_BK)


def measures(logits_NK: Tensor, labels_N: Tensor) -> dict[str, float]:
    batch = Batch(images_BCHW=logits_NK, labels_B=labels_N, indices_B=torch.arange(len(labels_N)))
    return evaluate(cast("Network", Same()), [batch])


def test_two_classes_by_hand() -> None:
    logits_NK = logits_of([[0.9, 0.1], [0.8, 0.2], [0.3, 0.7], [0.4, 0.6]])
    found = measures(logits_NK, torch.tensor([0, 1, 1, 1]))
    assert found["top1"] == 75.0
    assert found["top5"] == 100.0
    assert found["loss"] == pytest.approx(-(math.log(0.9) + math.log(0.2) + math.log(0.7) + math.log(0.6)) / 4)
    # Each confidence has a bin of its own: |1-.9| + |0-.8| + |1-.7| + |1-.6|, over 4.
    assert found["ece"] == pytest.approx(100 * (0.1 + 0.8 + 0.3 + 0.4) / 4)


def test_top5_of_seven_classes() -> None:
    logits_NK = torch.arange(7.0).flip(0).repeat(3, 1)  # class 0 first, then 1, ...
    found = measures(logits_NK, torch.tensor([0, 4, 5]))
    assert found["top1"] == pytest.approx(100 / 3)
    assert found["top5"] == pytest.approx(200 / 3)


@pytest.mark.parametrize("num_classes", [2, 3, 4, 5])
def test_top5_over_few_classes_is_everything(num_classes: int) -> None:
    logits_NK = torch.arange(float(num_classes)).repeat(num_classes, 1)
    found = measures(logits_NK, torch.arange(num_classes))
    assert found["top1"] == pytest.approx(100 / num_classes)
    assert found["top5"] == 100.0


def test_calibration_within_a_bin_cancels() -> None:
    # Both in (0.6, 0.667]: one right, one wrong, so |0.5 - 0.65|.
    logits_NK = logits_of([[0.66, 0.34], [0.64, 0.36]])
    assert measures(logits_NK, torch.tensor([0, 1]))["ece"] == pytest.approx(15)


def test_calibration_of_certainty() -> None:
    logits_NK = torch.tensor([[1000.0, 0.0], [0.0, 1000.0]])
    assert measures(logits_NK, torch.tensor([0, 1]))["ece"] == 0.0
    assert measures(logits_NK, torch.tensor([1, 0]))["ece"] == 100.0


def test_bins_are_closed_above() -> None:
    # With 2 bins 0.5 belongs to the lower one: the gaps do not cancel across bins.
    confidence_N, right_N = torch.tensor([0.5, 0.75], dtype=torch.float64), torch.tensor([1.0, 0.0]).double()
    assert calibration_error(confidence_N, right_N, num_bins=2) == pytest.approx((0.5 + 0.75) / 2)


def test_image_by_image_gives_the_bits_of_all_at_once() -> None:
    for seed, (num_images, num_classes) in enumerate([(1, 2), (7, 3), (777, 100), (3000, 10), (5000, 200)]):
        random = torch.Generator().manual_seed(seed)
        logits_NK = 4 * torch.randn(num_images, num_classes, generator=random)
        labels_N = torch.randint(0, num_classes, (num_images,), generator=random)
        parts = [
            Batch(image.unsqueeze(0), label.unsqueeze(0), label.unsqueeze(0))
            for image, label in zip(logits_NK, labels_N, strict=True)
        ]
        found = evaluate(cast("Network", Same()), parts)
        assert found == measures(logits_NK, labels_N)
        assert found["loss"] == F.cross_entropy(logits_NK.double(), labels_N).item()
        confidence_N, predicted_N = F.softmax(logits_NK.double(), dim=1).max(dim=1)
        assert found["ece"] == 100 * calibration_error(confidence_N, (predicted_N == labels_N).double())
        assert found["top1"] == 100 * (logits_NK.argmax(dim=1) == labels_N).double().mean().item()


def test_batches_are_put_together() -> None:
    network = build_model("resnet8", num_classes=3, stem="conv3x3").eval()
    images_BCHW, labels_B = torch.randn(5, 3, 32, 32), torch.tensor([0, 1, 2, 0, 1])
    indices_B = torch.arange(5)
    parts = [Batch(images_BCHW[a:b], labels_B[a:b], indices_B[a:b]) for a, b in ((0, 2), (2, 5))]
    with torch.no_grad():
        whole = measures(network(images_BCHW).logits_BK, labels_B)
    assert evaluate(network, parts) == pytest.approx(whole, abs=1e-4)
