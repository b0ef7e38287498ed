"""What every row of ``BASE_LOSSES`` must satisfy; see ``icd/losses/base.py``.

A test module gives a fixture ``loss`` and a fixture ``zero_at_equality``, and a subclass of ``BaseLossContract``.
"""

import copy
import pickle
from dataclasses import FrozenInstanceError, fields, replace
from typing import Any

import pytest
import torch
from torch import Tensor

from icd.fields import FieldError, annotations, ranges_of
from icd.losses import BaseLoss

ROWS, CLASSES = 6, 9


def logits(seed: int, *, rows: int = ROWS, classes: int = CLASSES, dtype: torch.dtype = torch.float64) -> Tensor:
    """Random logits of the size that networks give."""
    return 3 * torch.randn(rows, classes, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def labels(*, rows: int = ROWS, classes: int = CLASSES) -> Tensor:
    return torch.arange(rows) * 5 % classes


def gradient(loss: BaseLoss, student_NK: Tensor, teacher_NK: Tensor) -> Tensor:
    student_NK = student_NK.detach().clone().requires_grad_()
    (gradient_NK,) = torch.autograd.grad(loss(student_NK, teacher_NK, labels()).sum(), student_NK)
    return gradient_NK


class BaseLossContract:
    """Behaviour that cells, methods and configuration rely on."""

    def test_one_value_for_each_row(self, loss: BaseLoss) -> None:
        values_N = loss(logits(1), logits(2), labels())
        assert values_N.shape == (ROWS,)
        assert values_N.dtype == torch.float64
        assert torch.isfinite(values_N).all()

    def test_rows_are_independent(self, loss: BaseLoss) -> None:
        order_N = torch.tensor([3, 0, 5, 1, 4, 2])
        values_N = loss(logits(1), logits(2), labels())
        permuted_N = loss(logits(1)[order_N], logits(2)[order_N], labels()[order_N])
        torch.testing.assert_close(permuted_N, values_N[order_N], rtol=1e-13, atol=1e-13)
        alone_N = torch.cat([loss(logits(1)[[n]], logits(2)[[n]], labels()[[n]]) for n in range(ROWS)])
        torch.testing.assert_close(alone_N, values_N, rtol=1e-13, atol=1e-13)

    def test_order_of_classes_does_not_matter(self, loss: BaseLoss) -> None:
        order_K = torch.tensor([4, 8, 0, 2, 6, 1, 7, 3, 5])
        values_N = loss(logits(1), logits(2), labels())
        moved_N = loss(logits(1)[:, order_K], logits(2)[:, order_K], order_K.argsort()[labels()])
        torch.testing.assert_close(moved_N, values_N, rtol=1e-12, atol=1e-12)

    def test_shifted_logits_are_the_same_prediction(self, loss: BaseLoss) -> None:
        shift_N1 = logits(3, classes=1)
        values_N = loss(logits(1), logits(2), labels())
        shifted_N = loss(logits(1) + shift_N1, logits(2) - 2 * shift_N1, labels())
        torch.testing.assert_close(shifted_N, values_N, rtol=1e-11, atol=1e-11)

    def test_gradient_is_that_of_the_value(self, loss: BaseLoss) -> None:
        teacher_NK = logits(2)[:2]
        assert torch.autograd.gradcheck(
            lambda student_NK: loss(student_NK, teacher_NK, labels(rows=2)), (logits(1)[:2].requires_grad_(),)
        )

    def test_student_equal_to_teacher(self, loss: BaseLoss, zero_at_equality: bool) -> None:
        values_N, gradient_NK = loss(logits(1), logits(1), labels()), gradient(loss, logits(1), logits(1))
        if zero_at_equality:
            assert values_N.abs().max() < 1e-12
            assert gradient_NK.abs().max() < 1e-12
        else:
            assert values_N.min() > 0
            assert gradient_NK.abs().max() > 1e-3

    def test_a_student_that_confuses_the_other_classes_costs_more(self, loss: BaseLoss) -> None:
        """The label's logit stays, the others change places: whatever a loss does with labels, this is worse."""
        others_NK = torch.ones(ROWS, CLASSES, dtype=torch.bool).scatter(1, labels().unsqueeze(1), value=False)
        confused_NK = logits(2)
        confused_NK[others_NK] = logits(2)[others_NK].reshape(ROWS, -1).roll(1, dims=1).flatten()
        equal_N, confused_N = (loss(student_NK, logits(2), labels()) for student_NK in (logits(2), confused_NK))
        assert (confused_N > equal_N + 1e-3).all()

    @pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
    def test_extreme_logits_stay_finite(self, loss: BaseLoss, dtype: torch.dtype) -> None:
        student_NK, teacher_NK = (1e4 * logits(seed).sign().to(dtype) for seed in (1, 2))
        one_hot_NK = torch.full((ROWS, CLASSES), -1e4, dtype=dtype).scatter(1, labels().unsqueeze(1), 1e4)
        for pair in ((student_NK, teacher_NK), (one_hot_NK, -one_hot_NK), (-one_hot_NK, one_hot_NK)):
            assert torch.isfinite(loss(*pair, labels())).all()
            assert torch.isfinite(gradient(loss, *pair)).all()

    @pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
    def test_half_precision_is_computed_in_float32(self, loss: BaseLoss, dtype: torch.dtype) -> None:
        student_NK, teacher_NK = logits(1).to(dtype), logits(2).to(dtype)
        values_N = loss(student_NK, teacher_NK, labels())
        assert values_N.dtype == torch.float32
        torch.testing.assert_close(values_N, loss(student_NK.float(), teacher_NK.float(), labels()))
        exact_N = loss(logits(1).float(), logits(2).float(), labels())
        torch.testing.assert_close(values_N, exact_N, rtol=0.1 if dtype is torch.bfloat16 else 0.01, atol=0.01)
        assert torch.isfinite(gradient(loss, student_NK, teacher_NK)).all()

    def test_mixed_precision_leaves_it_alone(self, loss: BaseLoss) -> None:
        sides = logits(1).float().requires_grad_(), logits(2).float()
        exact_N, exact_NK = loss(*sides, labels()).detach(), gradient(loss, *sides)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            values_N = loss(*sides, labels())
            gradient_NK = gradient(loss, *sides)
        assert torch.equal(values_N, exact_N)
        assert torch.equal(gradient_NK, exact_NK)

    def test_no_gradient_to_the_teacher(self, loss: BaseLoss) -> None:
        student_NK, teacher_NK = logits(1).requires_grad_(), logits(2).requires_grad_()
        loss(student_NK, teacher_NK, labels()).sum().backward()
        assert teacher_NK.grad is None
        assert student_NK.grad is not None

    def test_inputs_are_left_alone(self, loss: BaseLoss) -> None:
        student_NK, teacher_NK, labels_N = logits(1), logits(2), labels()
        loss(student_NK, teacher_NK, labels_N)
        assert torch.equal(student_NK, logits(1))
        assert torch.equal(teacher_NK, logits(2))
        assert torch.equal(labels_N, labels())

    def test_is_a_value(self, loss: Any) -> None:
        twin, other = replace(loss), replace(loss, temperature=loss.temperature + 1)
        assert twin == loss
        assert hash(twin) == hash(loss)
        assert other != loss
        assert copy.deepcopy(loss) == loss
        assert pickle.loads(pickle.dumps(loss)) == loss
        with pytest.raises(FrozenInstanceError):
            loss.temperature = 2.0

    def test_repr_gives_every_constant(self, loss: Any) -> None:
        inside = ", ".join(f"{field.name}={getattr(loss, field.name)!r}" for field in fields(loss))
        assert repr(loss) == f"{type(loss).__name__}({inside})"
        assert loss.title

    def test_range_error_says_rule_and_value(self, loss: Any) -> None:
        with pytest.raises(FieldError) as caught:
            replace(loss, temperature=-1)
        assert str(caught.value) == "temperature > 0 must hold, but got -1"

    def test_every_number_has_a_range_and_must_be_finite(self, loss: Any) -> None:
        for name, annotation in annotations(loss.__class__).items():
            if isinstance(getattr(loss, name), bool):
                continue
            assert ranges_of(annotation), name
            for bound in ranges_of(annotation):
                bad = bound.above if bound.above is not None else (bound.at_least or 0) - 1
                with pytest.raises(FieldError, match=rf"^{name} .* must hold, but got "):
                    replace(loss, **{name: bad})
            for bad in (float("nan"), float("inf")):
                with pytest.raises(FieldError, match=rf"^{name} must be finite, but got "):
                    replace(loss, **{name: bad})

    def test_every_wrong_constant_is_reported(self, loss: Any) -> None:
        ranged = [name for name in annotations(loss.__class__) if not isinstance(getattr(loss, name), bool)]
        with pytest.raises(FieldError) as caught:
            replace(loss, **dict.fromkeys(ranged, -5))
        assert [problem.field for problem in caught.value.problems] == ranged
