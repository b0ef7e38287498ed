"""Base losses: one value per row of logits, so that the same loss serves images and cells.

Shape key:
    N: rows (images, or images times cells)    K: classes    2: target class, all others together
"""

from dataclasses import dataclass
from typing import ClassVar, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from icd.fields import Checked, NonNegative, Positive
from icd.losses.rows import kl_and_gradient, log_softened, others_and_margin, pair_kl, with_gradient


class BaseLoss(Protocol):
    """How far a student's logits are from a teacher's, row by row.

    A base loss is a frozen value: its fields are the constants of its equation, and calling it is pure. The device
    follows the inputs. ``loss_of_cells`` calls it, with float32 logits at least and none of the teacher's gradients.

    A class may say ``per_batch = True``: its rows depend on each other. It is called with the cells of the whole batch,
    [B, P, K], and the labels [B], and gives one value for each cell of each image, [B, P]; what the images of a batch
    share is given to each of them.
    """

    title: ClassVar[str]

    def __call__(self, student_NK: Tensor, teacher_NK: Tensor, labels_N: Tensor, /) -> Tensor:
        """Return the loss of each row, shape [N]; lower is closer."""
        ...


class RowLoss(Checked):
    """A base loss whose rows know nothing of each other, and whose gradient is written down, not recorded."""

    __slots__ = ()

    def __call__(self, student_NK: Tensor, teacher_NK: Tensor, labels_N: Tensor) -> Tensor:
        """Return the loss of each row, shape [N]."""
        with torch.no_grad():
            value_N, gradient_NK = self.value_and_gradient(student_NK, teacher_NK, labels_N)
        return with_gradient(student_NK, value_N, gradient_NK)

    def value_and_gradient(self, student_NK: Tensor, teacher_NK: Tensor, labels_N: Tensor) -> tuple[Tensor, Tensor]:
        """Give the loss of each row, [N], and its derivative by the student's logits, [N, K]; autograd is off."""
        raise NotImplementedError


@dataclass(frozen=True, slots=True, kw_only=True)
class KnowledgeDistillation(RowLoss):
    r"""KL divergence of softened predictions.

    .. math:: \ell_n = T^2 \, KL(softmax(t_n / T) \,\|\, softmax(s_n / T))

    Source: Hinton et al. 2015, section 2. T = 4 is the setting of the SDD and iCD repositories.
    """

    title: ClassVar[str] = "KD, Hinton et al. 2015"

    temperature: Positive = 4.0

    def value_and_gradient(self, student_NK: Tensor, teacher_NK: Tensor, labels_N: Tensor) -> tuple[Tensor, Tensor]:
        return kl_and_gradient(student_NK, teacher_NK, self.temperature)


@dataclass(frozen=True, slots=True, kw_only=True)
class DecoupledKD(RowLoss):
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

    def value_and_gradient(self, student_NK: Tensor, teacher_NK: Tensor, labels_N: Tensor) -> tuple[Tensor, Tensor]:
        alpha, beta, temperature = self.alpha, self.beta, self.temperature
        log_NK, gradient_NK, margin_N = others_and_margin(student_NK, labels_N, temperature)
        gap_NK, teacher_NK, teacher_margin_N = others_and_margin(teacher_NK, labels_N, temperature)
        gap_NK.sub_(log_NK)
        gap_NK.scatter_(1, labels_N.unsqueeze(1), 0.0)  # -inf minus -inf is NaN; the target weighs nothing
        tckd_N, nckd_N = pair_kl(margin_N, teacher_margin_N), gap_NK.mul_(teacher_NK).sum(dim=1)
        value_N = temperature**2 * (alpha * tckd_N + beta * nckd_N)
        # The margin's derivative by s is 1 / T at the target, and -p / T at the others, p among themselves.
        pull_N1 = (alpha * temperature * (margin_N.sigmoid() - teacher_margin_N.sigmoid())).unsqueeze(1)
        gradient_NK.mul_(beta * temperature - pull_N1).sub_(teacher_NK, alpha=beta * temperature)
        gradient_NK.scatter_(1, labels_N.unsqueeze(1), pull_N1)
        return value_N, gradient_NK


@dataclass(frozen=True, slots=True, kw_only=True)
class NormalizedKD(RowLoss):
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

    def value_and_gradient(self, student_NK: Tensor, teacher_NK: Tensor, labels_N: Tensor) -> tuple[Tensor, Tensor]:
        labels_N1, soft_weight = labels_N.unsqueeze(1), self.gamma * self.temperature
        without_N1 = None if self.keep_target else labels_N1
        log_student_NK = F.log_softmax(student_NK, dim=1)
        target_N1 = F.softmax(teacher_NK, dim=1).gather(1, labels_N1)
        target_value_N = -(target_N1 * log_student_NK.gather(1, labels_N1)).squeeze(1)
        gradient_NK = log_student_NK.exp_().mul_(target_N1).scatter_add_(1, labels_N1, -target_N1)
        log_soft_NK = log_softened(student_NK, self.temperature, without_N1)
        soft_NK = log_softened(teacher_NK, self.temperature, without_N1).exp_()
        # A target that is left out is 1 - 1 here, and 1 times 0 in the sum.
        gradient_NK.add_(log_soft_NK.exp().sub_(soft_NK), alpha=soft_weight)
        soft_value_N = soft_NK.mul_(log_soft_NK).sum(dim=1)
        return target_value_N - soft_weight * self.temperature * soft_value_N, gradient_NK
