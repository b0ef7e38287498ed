"""LDRLD and SP against loops written from their equations, and against the mistakes that look plausible."""

from itertools import combinations
from math import exp

import pytest
import torch
from torch import Tensor

from icd.losses import LocalRelations
from icd.losses.relational import similarity_loss
from tests.loss_contract import CLASSES, ROWS, labels, logits

NO_MISTAKE = "none"
LDRLD_MISTAKES = ("teacher top", "unweighted pairs", "ranks from 0", "divided by pairs")


def kl(student_K: Tensor, teacher_K: Tensor) -> float:
    student_K, teacher_K = student_K.softmax(0), teacher_K.softmax(0)
    return float((teacher_K * (teacher_K / student_K).log()).sum())


def naive_ldrld(spec: LocalRelations, student_K: Tensor, teacher_K: Tensor, mistake: str = NO_MISTAKE) -> float:
    ranked = (teacher_K if mistake == "teacher top" else student_K).argsort(descending=True).tolist()
    top, rest = ranked[: spec.k], ranked[spec.k :] or ranked
    student_K, teacher_K = student_K / spec.temperature, teacher_K / spec.temperature
    first = 0 if mistake == "ranks from 0" else 1
    weights = {
        (i, j): 2 / (1.5 + j - i) * exp(-0.05 * (i + first + j + first)) for i, j in combinations(range(spec.k), 2)
    }
    if mistake == "unweighted pairs":
        weights = dict.fromkeys(weights, 1.0)
    total = sum(w * kl(student_K[[top[i], top[j]]], teacher_K[[top[i], top[j]]]) for (i, j), w in weights.items())
    full_weight = weights[0, 1] if spec.k == 2 and mistake != "full unweighted at k = 2" else 1.0
    total += full_weight * kl(student_K[top], teacher_K[top])
    local = total / (len(weights) + (mistake != "divided by pairs"))
    return spec.temperature**2 * (spec.alpha * local + spec.beta * kl(student_K[rest], teacher_K[rest]))


def naive_rows(spec: LocalRelations, mistake: str = NO_MISTAKE) -> Tensor:
    rows = [naive_ldrld(spec, logits(1)[n], logits(2)[n], mistake) for n in range(ROWS)]
    return torch.tensor(rows, dtype=torch.float64)


@pytest.mark.parametrize("k", [2, 3, 5, CLASSES - 1, CLASSES])
def test_ldrld_is_the_loop_over_pairs(k: int) -> None:
    spec = LocalRelations(k=k, temperature=3.0)
    torch.testing.assert_close(spec(logits(1), logits(2), labels()), naive_rows(spec), rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("mistake", LDRLD_MISTAKES)
def test_ldrld_is_not_a_plausible_mistake(mistake: str) -> None:
    spec = LocalRelations(k=4)
    assert ((spec(logits(1), logits(2), labels()) / naive_rows(spec, mistake) - 1).abs() > 1e-3).any()


def test_ldrld_weights_the_full_set_like_the_pair_at_k_2() -> None:
    spec = LocalRelations(k=2)
    mistaken_N = naive_rows(spec, "full unweighted at k = 2")
    assert ((spec(logits(1), logits(2), labels()) / mistaken_N - 1).abs() > 1e-3).any()


def test_ldrld_rest_of_one_class_is_nothing_and_of_none_is_all() -> None:
    one_N, all_N = (
        LocalRelations(k=k, alpha=0.0, beta=1.0)(logits(1), logits(2), labels()) for k in (CLASSES - 1, CLASSES)
    )
    assert (one_N == 0).all()
    expected = [16 * kl(logits(1)[n] / 4, logits(2)[n] / 4) for n in range(ROWS)]
    assert all_N.tolist() == pytest.approx(expected, rel=1e-11)


def test_ldrld_does_not_look_at_labels() -> None:
    spec = LocalRelations()
    assert torch.equal(spec(logits(1), logits(2), labels()), spec(logits(1), logits(2), labels() * 0))


def test_ldrld_of_more_classes_than_there_are() -> None:
    with pytest.raises(ValueError, match=r"^k <= number of classes \(9\) must hold, but got 10$"):
        LocalRelations(k=10)(logits(1), logits(2), labels())
    assert torch.isfinite(LocalRelations(k=60)(logits(1, classes=80), logits(2, classes=80), labels())).all()


def features(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_sp_is_the_loop_over_images() -> None:
    student, teacher = features(1, 5, 3, 4, 4), features(2, 5, 2, 2, 2)
    rows = []
    for side in (student, teacher):
        gram_BB = torch.tensor([[float((a * b).sum()) for b in side] for a in side], dtype=torch.float64)
        rows.append(gram_BB / gram_BB.square().sum(1, keepdim=True).sqrt())
    expected = float((rows[0] - rows[1]).square().sum())
    assert similarity_loss(student, teacher).item() == pytest.approx(expected / 25, rel=1e-12)  # B^2, not B


def test_sp_gradient_and_equality() -> None:
    student, teacher = features(1, 4, 6).requires_grad_(), features(2, 4, 3).requires_grad_()
    assert torch.autograd.gradcheck(lambda rows: similarity_loss(rows, teacher), (student,))
    similarity_loss(student, teacher).backward()
    assert teacher.grad is None
    same = similarity_loss(student, student.detach())
    assert same.item() == 0
    assert torch.autograd.grad(same, student)[0].abs().max() == 0


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_sp_of_half_precision_is_float32(dtype: torch.dtype) -> None:
    # The product of two such rows overflows float16.
    student, teacher = 100 * features(1, 4, 64).to(dtype), 100 * features(2, 4, 64).to(dtype)
    loss = similarity_loss(student, teacher)
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, similarity_loss(student.float(), teacher.float()))


def test_sp_of_an_empty_feature_is_finite() -> None:
    student = torch.zeros(3, 4, dtype=torch.float64, requires_grad=True)
    loss = similarity_loss(student, features(2, 3, 4))
    assert torch.isfinite(loss)
    assert torch.isfinite(torch.autograd.grad(loss, student)[0]).all()
