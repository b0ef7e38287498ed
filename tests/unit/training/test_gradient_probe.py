"""Shares and cosines known by hand; a measurement sees always the same images and leaves no trace."""

import logging
import math
from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch
from torch import Tensor, nn

from icd.config.training import TrainingConfig
from icd.config.trial import TrialConfig
from icd.data.images import ArrayImages
from icd.data.loader import Batch
from icd.data.split import Split
from icd.data.views import CropFlip
from icd.methods import CellDistillation, LiveOutputs, Step
from icd.models import Network, build_model
from icd.training.epoch_inputs import EpochInputs
from icd.training.gradient_probe import GradientProbe, fixed_batch, term_gradients
from icd.training.loop import Execution
from icd.training.step import TrainStep

CPU = torch.device("cpu")
PROTOCOL = TrainingConfig(augmentation=CropFlip(size=32, pad=4), epochs=10, batch_size=6, lr=0.1, weight_decay=0.0)


def weights(*values: float) -> list[nn.Parameter]:
    return [nn.Parameter(torch.tensor(value)) for value in values]


def test_shares_and_cosines_of_a_linear_toy() -> None:
    a, b = weights(1.0, 1.0)
    unused = nn.Parameter(torch.ones(3))
    terms = {"ce": 3 * a, "base": 4 * b, "cluster": -a, "similarity": 0.6 * a + 0.8 * b}
    measured = term_gradients(terms, [a, b, unused])
    norms = {"ce": 3.0, "base": 4.0, "cluster": 1.0, "similarity": 1.0}
    cosines = {"base": 0.0, "cluster": -1.0, "similarity": 0.6}
    expected = {f"train/gradient_norm/{name}": norm for name, norm in norms.items()}
    expected |= {f"train/gradient_share/{name}": norm / 9 for name, norm in norms.items()}
    expected |= {f"train/gradient_cosine/{name}": cosine for name, cosine in cosines.items()}
    assert measured == pytest.approx(expected)


def test_without_cross_entropy_there_is_no_cosine() -> None:
    (a,) = weights(1.0)
    measured = term_gradients({"base": 3 * a, "cluster": a}, [a])
    assert measured["train/gradient_share/cluster"] == 0.25
    assert not [name for name in measured if "cosine" in name]


def test_a_term_without_a_gradient_has_no_share_of_it_and_no_direction() -> None:
    (a,) = weights(1.0)
    measured = term_gradients({"ce": 2 * a, "base": torch.tensor(5.0), "cluster": 0 * a}, [a])
    assert measured["train/gradient_share/ce"] == 1
    assert measured["train/gradient_share/base"] == measured["train/gradient_share/cluster"] == 0
    assert not [name for name in measured if "cosine" in name]


def test_where_all_gradients_are_zero_there_are_no_shares() -> None:
    (a,) = weights(1.0)
    assert term_gradients({"ce": 0 * a}, [a]) == {"train/gradient_norm/ce": 0.0}


def test_a_gradient_that_is_not_finite_is_said_and_no_share_is_made_up() -> None:
    a, b = weights(0.0, 1.0)
    measured = term_gradients({"ce": 2 * b, "base": a.sqrt(), "cluster": b}, [a, b])
    assert measured == {
        "train/gradient_norm/ce": 2.0,
        "train/gradient_norm/cluster": 1.0,
        "train/gradient_nonfinite/base": 1.0,
        "train/gradient_cosine/cluster": 1.0,
    }


def test_small_gradients_do_not_vanish() -> None:
    (a,) = weights(1.0)
    measured = term_gradients({"ce": a, "cluster": 1e-30 * a}, [a])
    assert measured["train/gradient_share/cluster"] == pytest.approx(1e-30)


@pytest.mark.parametrize(
    ("report_every", "measure_every", "expected"),
    [
        (1, 1, list(range(1, 11))),
        (1, 4, [4, 8, 10]),
        (3, 1, [3, 6, 9, 10]),
        (3, 4, [6, 9, 10]),
        (1, 0, []),
        (4, 99, [10]),
    ],
)
def test_which_reporting_epochs_are_measured(report_every: int, measure_every: int, expected: list[int]) -> None:
    training = replace(PROTOCOL, report_every=report_every, measure_every=measure_every)
    found = [epoch for epoch in range(1, 11) if training.reports(epoch) and training.measures(epoch)]
    assert found == expected


@pytest.fixture(scope="module")
def images() -> ArrayImages:
    chance = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (40, 3, 32, 32), dtype=torch.uint8, generator=chance)
    return ArrayImages(pixels, torch.arange(40) % 10)


def inputs_of(images: ArrayImages, seed: int = 0, teacher: Network | None = None, **changes: Any) -> EpochInputs:
    """What the probe reads of a configuration and a split."""
    config = SimpleNamespace(seed=seed, training=replace(PROTOCOL, **changes))
    split = SimpleNamespace(mean=(0.5, 0.5, 0.5), std=(0.2, 0.2, 0.2))
    return EpochInputs(cast("TrialConfig", config), cast("Split", split), images, Execution(), teacher)


def same(one: Batch, other: Batch) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def test_the_fixed_batch_does_not_depend_on_the_trial(images: ArrayImages) -> None:
    batch = fixed_batch(inputs_of(images))
    assert len(batch.labels_B) == 6
    assert len(set(batch.indices_B.tolist())) == 6
    assert same(fixed_batch(inputs_of(images, seed=9, epochs=3, lr=1.0)), batch)
    larger = fixed_batch(inputs_of(images, batch_size=12))
    assert torch.equal(larger.images_BCHW[:6], batch.images_BCHW)
    assert len(fixed_batch(inputs_of(images, batch_size=1000)).labels_B) == len(images)


def probe_of(images: ArrayImages, method: CellDistillation | None = None) -> GradientProbe:
    student = build_model("resnet8", num_classes=10, seed=1)
    teacher = build_model("resnet8", num_classes=10, seed=2).eval().requires_grad_(False)
    method = method or CellDistillation(cluster_weight=2.0, warmup_epochs=4)
    one = TrainStep(student, method.build(None), PROTOCOL)
    return GradientProbe(one, inputs_of(images, teacher=teacher))


def state(probe: GradientProbe) -> list[Tensor]:
    return [tensor.detach().clone() for tensor in probe.step.changing()]


def test_a_measurement_leaves_no_trace(images: ArrayImages) -> None:
    probe = probe_of(images)
    before, addresses = state(probe), [tensor.data_ptr() for tensor in probe.step.changing()]
    chance = torch.get_rng_state()
    first = probe(4)
    assert probe(4) == first, "the same student and images"
    assert all(torch.equal(a, b) for a, b in zip(before, state(probe), strict=True))
    assert [tensor.data_ptr() for tensor in probe.step.changing()] == addresses
    assert all(weight.grad is None for weight in probe.step.weights)
    assert torch.equal(torch.get_rng_state(), chance)


def test_warm_up_is_part_of_what_is_measured(images: ArrayImages) -> None:
    probe = probe_of(images)
    norms = [probe(epoch)["train/gradient_norm/base"] for epoch in (1, 2, 4, 8)]
    assert norms == pytest.approx([norms[2] / 4, norms[2] / 2, norms[2], norms[2]])


def test_it_is_the_gradient_of_a_step_in_training(images: ArrayImages) -> None:
    """The sum of the terms, derived the plain way, with the batch's own statistics in the batch norms."""
    probe = probe_of(images, CellDistillation(ce_weight=0.0, cluster_weight=0.0))
    measured = probe(1)
    batch, teacher = fixed_batch(inputs_of(images)), probe.inputs.teacher
    assert teacher is not None
    student = probe.step.student.train()
    with torch.no_grad():
        answer = LiveOutputs(*teacher(batch.images_BCHW), teacher.head)
    side = LiveOutputs(*student(batch.images_BCHW), student.head)
    terms = probe.step.method(side, answer, Step(batch.labels_B, batch.indices_B, 1, 0))
    sum(terms.values()).backward()
    squares = [float(weight.grad.double().square().sum()) for weight in student.parameters() if weight.grad is not None]
    assert measured["train/gradient_norm/base"] == pytest.approx(math.sqrt(sum(squares)), rel=1e-5)
    assert measured["train/gradient_share/base"] == 1


def test_a_gradient_that_is_not_finite_is_logged(images: ArrayImages, caplog: pytest.LogCaptureFixture) -> None:
    probe = probe_of(images)
    with torch.no_grad():
        probe.step.student.head.weight[0, 0] = float("nan")
    with caplog.at_level(logging.WARNING):
        measured = probe(3)
    assert not [name for name in measured if "share" in name or "norm" in name]
    assert "epoch 3: no gradient shares, for that of ce, base, cluster is not finite" in caplog.text
