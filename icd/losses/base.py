"""Base losses: one value per row of logits, so that the same loss serves images and cells.

Shape key:
    N: rows (images, or images times cells)    K: classes    2: target class, all others together
"""

from dataclasses import dataclass
from typing import ClassVar, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from icd.fields import NonNegative, Positive, check_fields


class BaseLoss(Protocol):
    """How far a student's logits are from a teacher's, row by row.

    A base loss is a frozen value: its fields are the constants of its equation, and calling it is pure. The device
    follows the inputs; half-precision logits are computed in float32; no gradient reaches the teacher.
    """

    title: ClassVar[str]

    def __call__(self, student_NK: Tensor, teacher_NK: Tensor, labels_N: Tensor) -> Tensor:
        """Return the loss of each row, shape [N]; lower is closer."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class KnowledgeDistillation:
    r"""KL divergence of softened predictions.

    .. math:: \ell_n = T^2 \, KL(softmax(t_n / T) \,\|\, softmax(s_n / T))

    Source: Hinton et al. 2015, section 2. T = 4 is the setting of the SDD and iCD repositories.
    """

    title: ClassVar[str] = "KD, Hinton et al. 2015"

    temperature: Positive = 4.0

    def __post_init__(self) -> None:
        check_fields(self)

    def __call__(self, student_NK: Tensor, teacher_NK: Tensor, labels_N: Tensor) -> Tensor:
        """Return the loss of each row, shape [N]; labels are not used."""
        student_NK, teacher_NK = in_full_precision(student_NK), in_full_precision(teacher_NK.detach())
        return self.temperature**2 * kl_rows(student_NK / self.temperature, teacher_NK / self.temperature)


@dataclass(frozen=True, slots=True, kw_only=True)
class DecoupledKD:
    r"""KL divergence split into "how sure of the target" and "how are the others ranked", weighted apart.

    .. math:: \ell_n = \alpha \, TCKD_n + \beta \, NCKD_n, \qquad
              TCKD_n = T^2 \, KL([a, 1-a]^T \,\|\, [a, 1-a]^S), \quad
              NCKD_n = T^2 \, KL(softmax_{c \ne y}(t_n / T) \,\|\, softmax_{c \ne y}(s_n / T))

    with a the probability of the target class y at temperature T.

    Source: Zhao et al., CVPR 2022, eq. 7 (DKD). ``beta`` 8 is mdistiller's and SDD's default; iCD's is 2.
    Deviation: the authors take the log of a summed softmax and subtract 1000 from the target's logit; we stay in log
    space and leave the target out, which is the same number and stays finite where theirs is inf or NaN (a spread of
    logits / T above about 100 in float32).
    """

    title: ClassVar[str] = "DKD, Zhao et al., CVPR 2022"

    temperature: Positive = 4.0
    alpha: NonNegative = 1.0
    beta: NonNegative = 8.0

    def __post_init__(self) -> None:
        check_fields(self)

    def __call__(self, student_NK: Tensor, teacher_NK: Tensor, labels_N: Tensor) -> Tensor:
        """Return the loss of each row, shape [N]."""
        tckd_N, nckd_N = self.parts(student_NK, teacher_NK, labels_N)
        return self.alpha * tckd_N + self.beta * nckd_N

    def parts(self, student_NK: Tensor, teacher_NK: Tensor, labels_N: Tensor) -> tuple[Tensor, Tensor]:
        """Return TCKD and NCKD of each row, T^2 inside, before ``alpha`` and ``beta``."""
        student_NK = in_full_precision(student_NK) / self.temperature
        teacher_NK = in_full_precision(teacher_NK.detach()) / self.temperature
        target_NK = is_target(labels_N, student_NK.shape[1])
        student_N2, teacher_N2 = _target_or_not(student_NK, target_NK), _target_or_not(teacher_NK, target_NK)
        tckd_N = (teacher_N2.exp() * (teacher_N2 - student_N2)).sum(dim=1)
        nckd_N = kl_rows(student_NK, teacher_NK, without_NK=target_NK)
        return self.temperature**2 * tckd_N, self.temperature**2 * nckd_N


@dataclass(frozen=True, slots=True, kw_only=True)
class NormalizedKD:
    r"""Cross entropy with the teacher's target probability, plus softened cross entropy over the other classes.

    .. math:: \ell_n = - p^T_y \log p^S_y \;-\; \gamma T^2 \sum_{c \in C} q^T_c \log q^S_c

    p at temperature 1 always, q at temperature T and normalised over C. Both parts are cross entropies: the value is
    not zero, and its gradient need not be, where student equals teacher.

    Source: Yang et al., ICCV 2023 (NKD), section 3.
    Deviation: the paper has C = all classes but the target, ``keep_target=False``. The code published with SDD and
    iCD masks nothing, C = all classes, ``keep_target=True``; NKD's author fixed that upstream (yzd-v/cls_KD issue 16).
    """

    title: ClassVar[str] = "NKD, Yang et al., ICCV 2023"

    temperature: Positive = 1.0
    gamma: NonNegative = 1.5
    keep_target: bool = True

    def __post_init__(self) -> None:
        check_fields(self)

    def __call__(self, student_NK: Tensor, teacher_NK: Tensor, labels_N: Tensor) -> Tensor:
        """Return the loss of each row, shape [N]."""
        student_NK, teacher_NK = in_full_precision(student_NK), in_full_precision(teacher_NK.detach())
        labels_N1 = labels_N.unsqueeze(1)
        target_N = (
            F.softmax(teacher_NK, dim=1).gather(1, labels_N1) * F.log_softmax(student_NK, dim=1).gather(1, labels_N1)
        ).squeeze(1)
        without_NK = None if self.keep_target else is_target(labels_N, student_NK.shape[1])
        soft_N = _cross_entropy_rows(student_NK / self.temperature, teacher_NK / self.temperature, without_NK)
        return -target_N + self.gamma * self.temperature**2 * soft_N


def in_full_precision(logits: Tensor) -> Tensor:
    """Give half-precision logits as float32; a softmax in float16 overflows at 65504 and loses digits long before."""
    return logits.float() if logits.dtype in (torch.float16, torch.bfloat16) else logits


def is_target(labels_N: Tensor, num_classes: int) -> Tensor:
    """Mark each row's target class, shape [N, K]."""
    return torch.arange(num_classes, device=labels_N.device) == labels_N.unsqueeze(1)


def kl_rows(student_NK: Tensor, teacher_NK: Tensor, without_NK: Tensor | None = None) -> Tensor:
    r"""KL(softmax(teacher) || softmax(student)) of each row over the classes not marked in ``without_NK``.

    Both sides are normalised over the classes that remain; a row with one class left gives zero.
    """
    log_student_NK = F.log_softmax(_leave_out(student_NK, without_NK), dim=1)
    log_teacher_NK = F.log_softmax(_leave_out(teacher_NK, without_NK), dim=1)
    probability_NK = log_teacher_NK.exp()
    if without_NK is not None:  # -inf minus -inf would be NaN; those classes weigh nothing
        log_student_NK = log_student_NK.masked_fill(without_NK, 0.0)
        log_teacher_NK = log_teacher_NK.masked_fill(without_NK, 0.0)
    return (probability_NK * (log_teacher_NK - log_student_NK)).sum(dim=1)


def _cross_entropy_rows(student_NK: Tensor, teacher_NK: Tensor, without_NK: Tensor | None) -> Tensor:
    log_student_NK = F.log_softmax(_leave_out(student_NK, without_NK), dim=1)
    probability_NK = F.softmax(_leave_out(teacher_NK, without_NK), dim=1)
    if without_NK is not None:
        log_student_NK = log_student_NK.masked_fill(without_NK, 0.0)
    return -(probability_NK * log_student_NK).sum(dim=1)


def _leave_out(logits_NK: Tensor, without_NK: Tensor | None) -> Tensor:
    return logits_NK if without_NK is None else logits_NK.masked_fill(without_NK, float("-inf"))


def _target_or_not(logits_NK: Tensor, target_NK: Tensor) -> Tensor:
    """Log probabilities of the target class and of all others together, shape [N, 2]."""
    log_NK = F.log_softmax(logits_NK, dim=1)
    target_N = log_NK.masked_fill(~target_NK, float("-inf")).logsumexp(dim=1)
    others_N = log_NK.masked_fill(target_NK, float("-inf")).logsumexp(dim=1)
    return torch.stack([target_N, others_N], dim=1)
