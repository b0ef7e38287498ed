"""Checks of a method; the subject is one of its values. ``icd/methods/base.py`` says what a method is.

Shape key:
    B: batch    K: classes
"""

from functools import cache
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from icd.methods.base import LiveOutputs, MethodSetup, Step
from icd.models import build_model
from icd.models.seeding import initial_weights
from icd.testing.contract import Check, after, require
from icd.testing.losses import is_a_value

CLASSES, BATCH, SIDE = 10, 4, 32


class Pair(NamedTuple):
    """A small student in training and a small teacher, and what both say of a batch."""

    network: nn.Module
    student: LiveOutputs
    teacher: LiveOutputs


@cache
def _images() -> Tensor:
    return torch.randn(BATCH, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0))


def small_pair() -> Pair:
    """Make a pair of small networks, and what both say of a batch."""
    student = build_model("resnet8", num_classes=CLASSES, seed=1).train()
    teacher = build_model("resnet14", num_classes=CLASSES, seed=2).eval().requires_grad_(False)
    return Pair(student, LiveOutputs(*student(_images()), student.head), LiveOutputs(*teacher(_images()), teacher.head))


def a_step(epoch: int = 5) -> Step:
    """Give a moment of a training."""
    return Step(torch.tensor([3, 1, 4, 1]), torch.tensor([3, 11, 4, 21]), epoch=epoch, step=0)


def _setup() -> MethodSetup:
    return MethodSetup(student_channels=64, teacher_channels=64, labels_N=np.arange(30) % CLASSES, seed=1)


def _terms(method: Any, pair: Pair, built: nn.Module | None = None) -> dict[str, Tensor]:
    with initial_weights(0):
        built = method.build(_setup()) if built is None else built
    assert built is not None
    teacher = pair.teacher if method.needs_teacher else None
    found: dict[str, Tensor] = built(pair.student, teacher, a_step())
    return found


def terms_are_scalars_with_names(method: Any) -> None:
    """The module gives a dictionary of finite scalars."""
    built = method.build(_setup())
    require(isinstance(built, nn.Module), f"build must give a torch.nn.Module, but gave {type(built).__name__}")
    terms = _terms(method, small_pair(), built)
    require(isinstance(terms, dict) and terms, "the module must give a dictionary of named terms, with at least one")
    for name, term in terms.items():
        scalar = isinstance(term, Tensor) and term.dim() == 0
        require(scalar, f"term {name!r} must be a scalar tensor, but is {getattr(term, 'shape', type(term).__name__)}")
        require(torch.isfinite(term), f"term {name!r} must be finite, but is {term.item()}")


@after(terms_are_scalars_with_names)
def the_student_learns_from_it(method: Any) -> None:
    """Some term has a gradient by the student's weights; the teacher's stay as they are."""
    pair = small_pair()
    total = torch.stack([term.double() for term in _terms(method, pair).values()]).sum()
    require(total.requires_grad, "the terms must depend on the student's outputs")
    total.backward()
    gradients = [weight.grad for weight in pair.network.parameters() if weight.grad is not None]
    require(any(gradient.abs().max() > 0 for gradient in gradients), "no weight of the student gets a gradient")
    require(all(torch.isfinite(gradient).all() for gradient in gradients), "the student's gradient must be finite")


@after(terms_are_scalars_with_names)
def own_parameters_are_its_own(method: Any) -> None:
    """What it trains beside the student belongs to its module, gets a gradient, and follows from the seed."""
    with initial_weights(0):
        first = method.build(_setup())
    with initial_weights(1):
        second = method.build(_setup())
    for (name, weight), (_, again) in zip(first.state_dict().items(), second.state_dict().items(), strict=True):
        hint = "draw it inside 'with initial_weights(setup.seed):' (icd.models.seeding)"
        require(torch.equal(weight, again), f"{name} must follow from setup.seed; {hint}")
    pair = small_pair()
    theirs = {id(weight) for weight in pair.network.parameters()}
    require(not any(id(weight) in theirs for weight in first.parameters()), "its parameters must not be the student's")
    torch.stack([term.double() for term in _terms(method, pair, first).values()]).sum().backward()
    idle = [name for name, weight in first.named_parameters() if weight.requires_grad and weight.grad is None]
    require(not idle, f"parameters {', '.join(idle)} get no gradient")


METHOD_CHECKS: tuple[Check[Any], ...] = (
    terms_are_scalars_with_names,
    the_student_learns_from_it,
    own_parameters_are_its_own,
    is_a_value,
)
