"""Checks of a base loss; the subject is one of its values. ``icd/losses/base.py`` says what a base loss is.

Shape key:
    N: rows    B: batch    P: cells    K: classes
"""

import copy
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from icd.fields import FieldError, annotations, ranges_of
from icd.losses.base import BaseLoss
from icd.losses.cells import loss_of_cells
from icd.testing.contract import Check, after, require

ROWS, CLASSES = 6, 9


def random_logits(seed: int, *, rows: int = ROWS, classes: int = CLASSES, dtype: torch.dtype = torch.float64) -> Tensor:
    """Random logits of the size that networks give, [rows, classes]."""
    return 3 * torch.randn(rows, classes, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def some_labels(*, rows: int = ROWS, classes: int = CLASSES) -> Tensor:
    """Labels of several classes, [rows]."""
    return torch.arange(rows) * 5 % classes


def values_of(loss: BaseLoss, student_NK: Tensor, teacher_NK: Tensor, labels_N: Tensor) -> Tensor:
    """Give the value of each row; a ``per_batch`` loss sees the rows as a batch of images with one cell."""
    return loss_of_cells(loss, student_NK.unsqueeze(1), teacher_NK.unsqueeze(1), labels_N).squeeze(1)


def gradient_of(loss: BaseLoss, student_NK: Tensor, teacher_NK: Tensor, labels_N: Tensor | None = None) -> Tensor:
    """Give the gradient of the summed values by the student's logits."""
    student_NK = student_NK.detach().clone().requires_grad_()
    labels_N = some_labels(rows=len(student_NK)) if labels_N is None else labels_N
    (gradient_NK,) = torch.autograd.grad(values_of(loss, student_NK, teacher_NK, labels_N).sum(), student_NK)
    return gradient_NK


def one_value_for_each_row(loss: BaseLoss) -> None:
    """Values are finite and of the student's type."""
    values_N = values_of(loss, random_logits(1), random_logits(2), some_labels())
    require(values_N.dtype == torch.float64, f"float64 logits must give float64 values, but gave {values_N.dtype}")
    require(torch.isfinite(values_N).all(), f"values must be finite, but are {values_N.tolist()}")


@after(one_value_for_each_row)
def two_calls_give_the_same(loss: BaseLoss) -> None:
    """Nothing is drawn at random or kept from one batch to the next, or a resumed trial would be another one."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        first, second = (values_of(loss, random_logits(1), random_logits(2), some_labels()) for _ in range(2))
        values_of(loss, random_logits(3), random_logits(4), some_labels())
        torch.manual_seed(0)
        again = values_of(loss, random_logits(1), random_logits(2), some_labels())
    rule = (
        "must keep no state between batches, which a resumed trial would lack: after others the same logits must give"
    )
    require(torch.equal(first, again), f"{rule} the same")
    require(torch.equal(first, second), "two calls on the same logits must give the same; nothing may be random")


@after(two_calls_give_the_same)
def rows_are_independent(loss: BaseLoss) -> None:
    """A row's value does not depend on the rows beside it, or for a ``per_batch`` loss a cell's on other cells."""
    if getattr(loss, "per_batch", False):
        student_BPK, teacher_BPK = (
            torch.stack([random_logits(seed), random_logits(seed + 10)], dim=1) for seed in (1, 2)
        )
        together_BP = loss(student_BPK, teacher_BPK, some_labels())
        alone_BP = torch.cat(
            [loss(student_BPK[:, [cell]], teacher_BPK[:, [cell]], some_labels()) for cell in (0, 1)], dim=1
        )
        same = torch.allclose(together_BP, alone_BP, rtol=1e-12, atol=1e-12)
        require(same, "the value of a cell must not depend on the other cells of the image")
        return
    values_N = values_of(loss, random_logits(1), random_logits(2), some_labels())
    one_by_one = [
        values_of(loss, random_logits(1)[[n]], random_logits(2)[[n]], some_labels()[[n]]) for n in range(ROWS)
    ]
    same = torch.allclose(torch.cat(one_by_one), values_N, rtol=1e-12, atol=1e-12)
    require(same, "the value of a row must not depend on the other rows; a loss of a whole batch says per_batch = True")


@after(two_calls_give_the_same)
def gradient_is_that_of_the_value(loss: BaseLoss) -> None:
    """Autograd's gradient is the slope of the value."""
    teacher_NK, labels_N = random_logits(2)[:3], some_labels(rows=3)
    student_NK = random_logits(1)[:3].requires_grad_()
    values_N = values_of(loss, student_NK, teacher_NK, labels_N)
    require(values_N.requires_grad, "values must depend on the student's logits; a detach() or item() may cut them off")
    try:
        torch.autograd.gradcheck(lambda student_NK: values_of(loss, student_NK, teacher_NK, labels_N), (student_NK,))
    except RuntimeError as error:
        told = " ".join(str(error).split())[:160]
        require(False, f"the gradient must be the slope of the value by finite differences: {told}")


@after(two_calls_give_the_same)
def extreme_logits_stay_finite(loss: BaseLoss) -> None:
    """Logits of 10,000, as an untrained network in half precision may give them, make no NaN."""
    for dtype in (torch.float32, torch.float64):
        student_NK, teacher_NK = (1e4 * random_logits(seed).sign().to(dtype) for seed in (1, 2))
        one_hot_NK = torch.full((ROWS, CLASSES), -1e4, dtype=dtype).scatter(1, some_labels().unsqueeze(1), 1e4)
        for pair in ((student_NK, teacher_NK), (one_hot_NK, -one_hot_NK), (-one_hot_NK, one_hot_NK)):
            what = f"with logits of +-10000 in {str(dtype).partition('.')[2]}"
            finite = torch.isfinite(values_of(loss, *pair, some_labels())).all()
            require(finite, f"the value must be finite {what}; log_softmax stays finite where log(softmax) does not")
            require(torch.isfinite(gradient_of(loss, *pair)).all(), f"the gradient must be finite {what}")


@after(two_calls_give_the_same)
def inputs_are_left_alone(loss: BaseLoss) -> None:
    """Calling it changes neither logits nor labels."""
    student_NK, teacher_NK, labels_N = random_logits(1), random_logits(2), some_labels()
    values_of(loss, student_NK, teacher_NK, labels_N)
    for name, before, now in (
        ("the student's logits", random_logits(1), student_NK),
        ("the teacher's logits", random_logits(2), teacher_NK),
        ("the labels", some_labels(), labels_N),
    ):
        require(torch.equal(before, now), f"{name} must not be changed in place")


@after(two_calls_give_the_same)
def any_number_of_classes_and_rows(loss: BaseLoss) -> None:
    """One row and many classes are possible."""
    for rows, classes in ((1, CLASSES), (2, 100), (8, 20)):
        sides = random_logits(1, rows=rows, classes=classes), random_logits(2, rows=rows, classes=classes)
        values_N = values_of(loss, *sides, some_labels(rows=rows, classes=classes))
        require(torch.isfinite(values_N).all(), f"values of {rows} rows of {classes} classes must be finite")


def is_a_value(loss: Any) -> None:
    """It is equal to a copy, hashable, and has a title."""
    require(replace(loss) == loss and copy.deepcopy(loss) == loss, "a copy must be equal; let @dataclass write __eq__")
    require(hash(replace(loss)) == hash(loss), "equal values must have equal hashes; let @dataclass write them")
    require(getattr(loss, "title", ""), "needs a title: a docstring, or title: ClassVar[str]")


def every_number_has_a_range(loss: Any) -> None:
    """Every number says what it may be; a class that checks its fields refuses NaN and what is outside."""
    cls: Any = type(loss)
    checks_itself = hasattr(cls, "__post_init__")
    for name, annotation in annotations(cls).items():
        value = getattr(loss, name)
        if isinstance(value, bool) or not isinstance(value, int | float):
            continue
        require(ranges_of(annotation), f"field {name!r} needs a range, as in {name}: Positive = {value}")
        for bad in (float("nan"), *map(_outside, ranges_of(annotation))) if checks_itself else ():
            try:
                replace(loss, **{name: bad})
            except FieldError:
                continue
            require(False, f"{name} = {bad} must be refused; call icd.fields.check_fields(self) in __post_init__")


def _outside(bound: Any) -> float:
    if bound.above is not None or bound.at_least is not None:
        return float(bound.above if bound.above is not None else bound.at_least - 1)
    return float(bound.below if bound.below is not None else bound.at_most + 1)


LOSS_CHECKS: tuple[Check[Any], ...] = (
    one_value_for_each_row,
    two_calls_give_the_same,
    rows_are_independent,
    gradient_is_that_of_the_value,
    extreme_logits_stay_finite,
    inputs_are_left_alone,
    any_number_of_classes_and_rows,
    is_a_value,
    every_number_has_a_range,
)
