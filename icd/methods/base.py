"""What a method is given, and what it gives back.

Shape key:
    B: batch    C: channels    H, W: height, width    K: classes    N: training images    P: cells of all scales
"""

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import ClassVar, NamedTuple, Protocol

import numpy as np
import torch.nn.functional as F
from torch import Tensor, nn

from icd.fields import Checked
from icd.losses.cells import cell_logits
from icd.losses.rows import in_full_precision, no_autocast


class NetworkOutputs(Protocol):
    """One network's answer for a batch, live or read from a cache."""

    @property
    def logits_BK(self) -> Tensor: ...

    @property
    def features_BCHW(self) -> Tensor: ...

    @property
    def block_BCHW(self) -> Tensor: ...

    def cells(self, scales: Sequence[int], grid: int | None) -> Tensor:
        """Logits of all cells of the scales, [B, P, K]."""
        ...

    def cells_right(self, scales: Sequence[int], cells_BPK: Tensor, labels_B: Tensor) -> Tensor:
        """Whether the arg-max of each of its cells is the label, [B, P]; ``cells_BPK`` is what ``cells`` gave."""
        ...

    def logits_right(self, labels_B: Tensor) -> Tensor:
        """Whether the arg-max of its global logits is the label, [B]."""
        ...


class LiveOutputs(NamedTuple):
    """A side that was just computed by its network: the fields of its ``Output``, and what makes cells of them.

    Attributes:
        exact: Whether its cells are computed in full precision, whatever the caller's automatic mixed precision.
    """

    logits_BK: Tensor
    features_BCHW: Tensor
    block_BCHW: Tensor
    head: nn.Linear
    exact: bool = False

    def cells(self, scales: Sequence[int], grid: int | None) -> Tensor:
        with no_autocast(self.features_BCHW) if self.exact else nullcontext():
            return cell_logits(self.features_BCHW, self.head, scales, grid=grid)

    def cells_right(self, scales: Sequence[int], cells_BPK: Tensor, labels_B: Tensor) -> Tensor:
        return cells_BPK.argmax(dim=2) == labels_B.unsqueeze(1)

    def logits_right(self, labels_B: Tensor) -> Tensor:
        return self.logits_BK.argmax(dim=1) == labels_B


class Step(NamedTuple):
    """What a method may know of the batch and the moment; epochs count from 1, steps from 0 within the epoch.

    Where one recorded step is replayed for every step, the moment is a scalar on the device, float64 for the epoch.

    Attributes:
        label_smoothing: Share of each label that cross entropy spreads over all classes.
    """

    labels_B: Tensor
    indices_B: Tensor
    epoch: int | Tensor
    step: int | Tensor
    label_smoothing: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class MethodSetup:
    """What a method with its own weights needs to make them."""

    student_channels: int
    teacher_channels: int
    labels_N: np.ndarray
    seed: int


class Method(Protocol):
    """A method's settings: a frozen dataclass that builds the module."""

    title: ClassVar[str]
    needs_teacher: ClassVar[bool]

    def build(self, setup: MethodSetup | None) -> nn.Module:
        """Make the module that is called with the student's outputs, the teacher's or None, and a ``Step``.

        It returns named terms, each a scalar with its weight and warm-up inside; the loss is their sum. Its
        ``parameters()`` are its own, never a network's; ``setup`` may be None for a method without any.
        """
        ...


class WeightlessMethod(Checked):
    """A method without weights of its own: its terms are a function of the outputs."""

    __slots__ = ()

    def build(self, setup: MethodSetup | None = None) -> nn.Module:
        """Make the module, which calls ``terms``."""
        return _Terms(self)

    def terms(self, student: NetworkOutputs, teacher: NetworkOutputs | None, step: Step) -> dict[str, Tensor]:
        """Return the terms, as ``Method.build`` says."""
        raise NotImplementedError


class _Terms(nn.Module):
    def __init__(self, method: WeightlessMethod) -> None:
        super().__init__()
        self.method = method

    def forward(self, student: NetworkOutputs, teacher: NetworkOutputs | None, step: Step) -> dict[str, Tensor]:
        return self.method.terms(student, teacher, step)


def warmup_factor(epoch: int | Tensor, warmup_epochs: float) -> float | Tensor:
    """Share of a term's weight in an epoch counted from 1: min(epoch / W, 1), and 1 where W is 0.

    A float64 tensor for an epoch that is one, with the bits of the number.
    """
    if warmup_epochs <= 0:
        return 1.0
    share = epoch / warmup_epochs
    return share.clamp(max=1.0) if isinstance(share, Tensor) else min(share, 1.0)


def weighted(factor: float | Tensor, term: Tensor) -> Tensor:
    """Multiply a term by its weight; a weight on the device is rounded to the term's type, as a number would be."""
    return (factor.to(term.dtype) if isinstance(factor, Tensor) else factor) * term


def cross_entropy(side: NetworkOutputs, step: Step) -> Tensor:
    """Mean cross entropy of the global logits with the labels, smoothed as the training says; natural logarithm."""
    logits_BK = in_full_precision(side.logits_BK)
    return F.cross_entropy(logits_BK, step.labels_B, label_smoothing=step.label_smoothing)


def teacher_of(teacher: NetworkOutputs | None) -> NetworkOutputs:
    """Give the teacher's side, or say that the caller forgot it."""
    if teacher is None:
        raise ValueError("this method needs a teacher, but got None")
    return teacher
