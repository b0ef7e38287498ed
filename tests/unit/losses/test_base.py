"""KD, DKD and NKD on numbers that can be worked out by hand."""

from math import log

import pytest
import torch
from torch import Tensor

from icd.losses import DecoupledKD, KnowledgeDistillation, NormalizedKD

TEACHER, STUDENT, TARGET = (0.5, 0.3, 0.2), (0.2, 0.4, 0.4), torch.tensor([0])


def logits_of(*probabilities: float, temperature: float = 1.0) -> Tensor:
    """Logits whose softmax at the temperature gives the probabilities."""
    return temperature * torch.tensor([probabilities], dtype=torch.float64).log()


@pytest.mark.parametrize("temperature", [1.0, 2.0, 4.0])
def test_kd_of_two_classes(temperature: float) -> None:
    student_NK = logits_of(0.5, 0.5, temperature=temperature)
    teacher_NK = logits_of(0.75, 0.25, temperature=temperature)
    loss = KnowledgeDistillation(temperature=temperature)(student_NK, teacher_NK, TARGET)
    # The mistake "no T^2" gives the same number at every temperature.
    assert loss.item() == pytest.approx(temperature**2 * (0.75 * log(1.5) + 0.25 * log(0.5)), rel=1e-12)


def test_kd_is_teacher_to_student() -> None:
    loss = KnowledgeDistillation(temperature=1.0)
    there = loss(logits_of(*STUDENT), logits_of(*TEACHER), TARGET)
    back = loss(logits_of(*TEACHER), logits_of(*STUDENT), TARGET)
    assert abs(there - back) > 0.01


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_dkd_by_hand(temperature: float) -> None:
    student_NK, teacher_NK = (logits_of(*row, temperature=temperature) for row in (STUDENT, TEACHER))
    tckd = temperature**2 * (0.5 * log(0.5 / 0.2) + 0.5 * log(0.5 / 0.8))
    # The target is left out: (0.6, 0.4) against (0.5, 0.5).
    nckd = temperature**2 * (0.6 * log(0.6 / 0.5) + 0.4 * log(0.4 / 0.5))
    for alpha, beta in ((1.0, 0.0), (0.0, 1.0), (3.0, 5.0)):
        loss = DecoupledKD(temperature=temperature, alpha=alpha, beta=beta)(student_NK, teacher_NK, TARGET)
        assert loss.item() == pytest.approx(alpha * tckd + beta * nckd, rel=1e-12)


def test_dkd_weights_recompose_kd() -> None:
    """KL = TCKD + (1 - a) NCKD with a the teacher's probability of the target (Zhao et al., eq. 5)."""
    dkd, kd = DecoupledKD(temperature=1.0, alpha=1.0, beta=0.5), KnowledgeDistillation(temperature=1.0)
    dkd_N, kd_N = (loss(logits_of(*STUDENT), logits_of(*TEACHER), TARGET) for loss in (dkd, kd))
    torch.testing.assert_close(dkd_N, kd_N)


def test_dkd_of_two_classes_ranks_nothing() -> None:
    assert DecoupledKD(alpha=0.0)(logits_of(0.9, 0.1), logits_of(0.2, 0.8), TARGET).item() == 0


@pytest.mark.parametrize("keep_target", [True, False])
def test_nkd_by_hand(keep_target: bool) -> None:
    loss = NormalizedKD(temperature=1.0, gamma=1.5, keep_target=keep_target)
    soft = -(0.5 * log(0.2) + 0.3 * log(0.4) + 0.2 * log(0.4)) if keep_target else log(2)
    value = loss(logits_of(*STUDENT), logits_of(*TEACHER), TARGET).item()
    assert value == pytest.approx(-0.5 * log(0.2) + 1.5 * soft, rel=1e-12)


@pytest.mark.parametrize("keep_target", [True, False])
def test_nkd_target_term_stays_at_temperature_1(keep_target: bool) -> None:
    # At temperature 1 these logits mean squares: 0.25, 0.09, 0.04 of 0.38 and 0.04, 0.16, 0.16 of 0.36.
    target = -(0.25 / 0.38) * log(0.04 / 0.36)
    soft = -(0.5 * log(0.2) + 0.3 * log(0.4) + 0.2 * log(0.4)) if keep_target else log(2)
    loss = NormalizedKD(temperature=2.0, gamma=3.0, keep_target=keep_target)
    value = loss(logits_of(*STUDENT, temperature=2), logits_of(*TEACHER, temperature=2), TARGET).item()
    assert value == pytest.approx(target + 3 * 4 * soft, rel=1e-12)


def test_nkd_default_is_the_published_code() -> None:
    assert NormalizedKD() == NormalizedKD(temperature=1.0, gamma=1.5, keep_target=True)
