"""Every base loss against the public checks, and against what the package asks of its own."""

import pickle
from dataclasses import fields, replace
from typing import Any

import pytest
import torch

from icd.fields import FieldError, annotations, ranges_of
from icd.losses import (
    BASE_LOSSES,
    AlphaBetaDivergence,
    BaseLoss,
    Correlations,
    LocalRelations,
    NormalizedKD,
    RefinedLogits,
    TransformedTeacher,
)
from icd.testing import LOSS_CHECKS, Check
from tests.loss_contract import CLASSES, ROWS, gradient, labels, logits, values

CASES: dict[str, BaseLoss] = {
    **{name: cls() for name, cls in BASE_LOSSES.own.items()},
    "nkd-corrected": NormalizedKD(temperature=4.0, keep_target=False),
    "ldrld-k2": LocalRelations(k=2),
    "ldrld-k8": LocalRelations(k=8),
    "ldrld-k9": LocalRelations(k=9),
    "ttm": TransformedTeacher(weighted=False),
    "rld-authors": RefinedLogits(target_temperature=1.0),
    "rld-cold": RefinedLogits(temperature=0.1),
    "abkd-alpha0": AlphaBetaDivergence(alpha=0.0, beta=0.5),
    "abkd-beta0": AlphaBetaDivergence(alpha=0.5, beta=0.0),
    "abkd-both0": AlphaBetaDivergence(alpha=0.0, beta=0.0),
    "dist-t1": Correlations(temperature=1.0),
}
# Cross entropies, and those that give the student another aim than the teacher's own prediction.
NOT_ZERO_AT_EQUALITY = (NormalizedKD, TransformedTeacher, RefinedLogits)


@pytest.fixture(params=CASES)
def loss(request: pytest.FixtureRequest) -> Any:
    return CASES[request.param]


@pytest.mark.parametrize("check", LOSS_CHECKS, ids=lambda check: check.__name__)
def test_public_check(loss: Any, check: Check[Any]) -> None:
    check(loss)


def test_order_of_classes_does_not_matter(loss: Any) -> None:
    order_K = torch.tensor([4, 8, 0, 2, 6, 1, 7, 3, 5])
    values_N = values(loss, logits(1), logits(2), labels())
    moved_N = values(loss, logits(1)[:, order_K], logits(2)[:, order_K], order_K.argsort()[labels()])
    torch.testing.assert_close(moved_N, values_N, rtol=1e-12, atol=1e-12)


def test_shifted_logits_are_the_same_prediction(loss: Any) -> None:
    shift_N1 = logits(3, classes=1)
    values_N = values(loss, logits(1), logits(2), labels())
    shifted_N = values(loss, logits(1) + shift_N1, logits(2) - 2 * shift_N1, labels())
    torch.testing.assert_close(shifted_N, values_N, rtol=1e-11, atol=1e-11)


def test_student_equal_to_teacher(loss: Any) -> None:
    values_N, gradient_NK = values(loss, logits(1), logits(1), labels()), gradient(loss, logits(1), logits(1))
    if not isinstance(loss, NOT_ZERO_AT_EQUALITY):
        tolerance = 1e-4 if isinstance(loss, Correlations) else 1e-12  # 1e-8 stands beside its norms
        assert values_N.abs().max() < tolerance
        assert gradient_NK.abs().max() < tolerance
    else:
        assert values_N.max() > 0
        assert gradient_NK.abs().max() > 1e-3


def test_a_student_that_confuses_the_other_classes_costs_more(loss: Any) -> None:
    """The teacher is right, so that no class is left out; the others change places, the label's logit stays."""
    taught_NK = logits(2).scatter(1, labels().unsqueeze(1), 9.0)
    others_NK = torch.ones(ROWS, CLASSES, dtype=torch.bool).scatter(1, labels().unsqueeze(1), value=False)
    confused_NK = taught_NK.clone()
    confused_NK[others_NK] = taught_NK[others_NK].reshape(ROWS, -1).roll(1, dims=1).flatten()
    equal_N, confused_N = (values(loss, student_NK, taught_NK, labels()) for student_NK in (taught_NK, confused_NK))
    assert (confused_N > equal_N + 1e-6).all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_float32(loss: Any, dtype: torch.dtype) -> None:
    student_NK, teacher_NK = logits(1).to(dtype), logits(2).to(dtype)
    values_N = values(loss, student_NK, teacher_NK, labels())
    assert values_N.dtype == torch.float32
    torch.testing.assert_close(values_N, values(loss, student_NK.float(), teacher_NK.float(), labels()))
    assert torch.isfinite(gradient(loss, student_NK, teacher_NK)).all()


def test_mixed_precision_leaves_it_alone(loss: Any) -> None:
    sides = logits(1).float().requires_grad_(), logits(2).float()
    exact_N, exact_NK = values(loss, *sides, labels()).detach(), gradient(loss, *sides)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        values_N = values(loss, *sides, labels())
    (gradient_NK,) = torch.autograd.grad(values_N.sum(), sides[0])  # as a training does, outside
    assert torch.equal(values_N, exact_N)
    assert torch.equal(gradient_NK, exact_NK)


def test_no_gradient_to_the_teacher(loss: Any) -> None:
    student_NK, teacher_NK = logits(1).requires_grad_(), logits(2).requires_grad_()
    values(loss, student_NK, teacher_NK, labels()).sum().backward()
    assert teacher_NK.grad is None
    assert student_NK.grad is not None


def test_is_stored_and_shown_with_every_constant(loss: Any) -> None:
    assert pickle.loads(pickle.dumps(loss)) == loss
    inside = ", ".join(f"{field.name}={getattr(loss, field.name)!r}" for field in fields(loss))
    assert repr(loss) == f"{type(loss).__name__}({inside})"


def test_every_wrong_constant_is_reported_with_its_rule(loss: Any) -> None:
    cls: Any = type(loss)
    ranged = {
        name: ranges_of(kind)[0] for name, kind in annotations(cls).items() if not isinstance(getattr(loss, name), bool)
    }
    with pytest.raises(FieldError) as caught:
        replace(loss, **dict.fromkeys(ranged, -5))
    assert [problem.field for problem in caught.value.problems] == list(ranged)
    assert str(caught.value) == "; ".join(f"{bound.rule(name)}, but got -5" for name, bound in ranged.items())
