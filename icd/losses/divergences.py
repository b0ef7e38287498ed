"""Base losses that change what is matched: the teacher's power transform (WTTM), alpha-beta divergence, refined logits.

Shape key:
    N: rows    K: classes
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from icd.fields import NonNegative, Positive
from icd.losses.base import RowLoss
from icd.losses.rows import kl_and_gradient, others_and_margin, pair_kl


@dataclass(frozen=True, slots=True, kw_only=True)
class TransformedTeacher(RowLoss):
    r"""KL divergence from the teacher's probabilities raised to a power; the student has no temperature.

    .. math:: \ell_n = w_n \, KL(\tilde p \,\|\, softmax(s_n)), \qquad
              \tilde p_k = p_k^l / \sum_j p_j^l, \quad w_n = \sum_j p_j^l

    with p the teacher's probabilities at temperature 1 and l the power, the paper's gamma = 1 / T. Without weights,
    w = 1, it is TTM.

    Source: Zheng and Yang, ICLR 2024 (TTM and WTTM), code zkxufo/TTM. The weights are not normalised: with l = 0.1 and
    100 classes they are about 45.
    Deviation: none in value. The code raises probabilities that may have underflowed; we scale log-probabilities,
    which differs where the teacher's margin is above about 100 in float32.
    """

    title: ClassVar[str] = "WTTM, Zheng and Yang, ICLR 2024"

    power: Positive = 0.1
    weighted: bool = True

    def value_and_gradient(self, student_NK: Tensor, teacher_NK: Tensor, labels_N: Tensor) -> tuple[Tensor, Tensor]:
        powered_NK = F.log_softmax(teacher_NK, dim=1) * self.power
        value_N, gradient_NK = kl_and_gradient(student_NK, powered_NK, 1.0)
        if not self.weighted:
            return value_N, gradient_NK
        weight_N = powered_NK.logsumexp(dim=1).exp()
        return value_N * weight_N, gradient_NK * weight_N.unsqueeze(1)


@dataclass(frozen=True, slots=True, kw_only=True)
class RefinedLogits(RowLoss):
    r"""How sure the student is of the label, as sure as the teacher of its best class; and the classes below the label.

    .. math:: \ell_n = \alpha T_a^2 \, KL([m, 1-m] \,\|\, [q_y, 1-q_y])
              + \beta T^2 \, KL_T \text{ over } \{k : t_k < t_y\}

    with m the teacher's largest probability and q_y the student's of the label, both at temperature T_a. A row whose
    label is the teacher's last class has no second part.

    Source: Sun et al., ICCV 2025 (RLD), code zju-SWJ/RLD; classes that tie with the label are left out, as there.
    Deviation: the code has temperature 1 in the first part unless it is called with ``--same-t``, as its README does;
    here both are one unless ``target_temperature`` says otherwise. Computed in log space: finite where theirs is not.

    Attributes:
        temperature: T, of the classes below the label.
        target_temperature: T_a, of the first part; null for T.
        alpha: Weight of the first part.
        beta: Weight of the second.
    """

    title: ClassVar[str] = "RLD, Sun et al., ICCV 2025"

    temperature: Positive = 4.0
    target_temperature: Positive | None = None
    alpha: NonNegative = 1.0
    beta: NonNegative = 8.0

    def value_and_gradient(self, student_NK: Tensor, teacher_NK: Tensor, labels_N: Tensor) -> tuple[Tensor, Tensor]:
        labels_N1 = labels_N.unsqueeze(1)
        # How sure of the label: the first part, and its gradient.
        temperature = self.temperature if self.target_temperature is None else self.target_temperature
        _, others_NK, margin_N = others_and_margin(student_NK, labels_N, temperature)
        _, _, teacher_margin_N = others_and_margin(teacher_NK, teacher_NK.argmax(dim=1), temperature)
        first_N = temperature**2 * pair_kl(margin_N, teacher_margin_N)
        pull_N1 = (self.alpha * temperature * (margin_N.sigmoid() - teacher_margin_N.sigmoid())).unsqueeze(1)
        gradient_NK = others_NK.mul_(-pull_N1).scatter_(1, labels_N1, pull_N1)
        # Classes below the label. Finite once divided, the least number makes a row that keeps none uniform: no loss.
        least = torch.finfo(student_NK.dtype).min / 4 * min(1.0, self.temperature)
        dropped_NK = teacher_NK >= teacher_NK.gather(1, labels_N1)
        below_NK, teacher_below_NK = (side_NK.masked_fill(dropped_NK, least) for side_NK in (student_NK, teacher_NK))
        second_N, second_NK = kl_and_gradient(below_NK, teacher_below_NK, self.temperature)
        gradient_NK.add_(second_NK.masked_fill_(dropped_NK, 0.0), alpha=self.beta)
        return self.alpha * first_N + self.beta * second_N, gradient_NK


@dataclass(frozen=True, slots=True, kw_only=True)
class AlphaBetaDivergence(RowLoss):
    r"""Divergence between softened predictions with one exponent on each side.

    .. math:: \ell_n = -\frac{1}{\alpha\beta} \sum_k \left[ p_k^\alpha q_k^\beta
              - \frac{\alpha}{\alpha+\beta} p_k^{\alpha+\beta} - \frac{\beta}{\alpha+\beta} q_k^{\alpha+\beta} \right]

    with p the teacher's and q the student's probabilities at temperature T; no factor T^2. (1, 0) is the KL divergence,
    (0, 1) the reverse one. Where an exponent is 0:

    * beta: :math:`\sum_k p^\alpha (\log p - \log q) + (q^\alpha - p^\alpha) / \alpha`
    * alpha: :math:`\sum_k q^\beta (\log q - \log p) + (p^\beta - q^\beta) / \beta`
    * both: :math:`\frac{1}{2} \sum_k (\log p - \log q)^2`

    Source: Wang et al., ICML 2025 (ABKD), code ghwang-s/abkd. Its branches for an exponent of 0 are not the limits of
    the general one: they are smaller by the factor alpha (or beta), and so are ours.
    Deviation: computed in log space. Exponents below 0, which the code takes, are refused: powers of probabilities near
    0 overflow.
    """

    title: ClassVar[str] = "ABKD, Wang et al., ICML 2025"

    temperature: Positive = 4.0
    alpha: NonNegative = 0.5
    beta: NonNegative = 0.5

    def value_and_gradient(self, student_NK: Tensor, teacher_NK: Tensor, labels_N: Tensor) -> tuple[Tensor, Tensor]:
        log_q_NK, log_p_NK = (F.log_softmax(side_NK / self.temperature, dim=1) for side_NK in (student_NK, teacher_NK))
        value_NK, slope_NK = self._terms(log_p_NK, log_q_NK)
        # The slope is by log q; the softmax takes away its mean under q.
        gradient_NK = slope_NK - log_q_NK.exp() * slope_NK.sum(dim=1, keepdim=True)
        return value_NK.sum(dim=1), gradient_NK / self.temperature

    def _terms(self, log_p_NK: Tensor, log_q_NK: Tensor) -> tuple[Tensor, Tensor]:
        """Give the terms of the sum and their derivatives by log q."""
        alpha, beta, gap_NK = self.alpha, self.beta, log_q_NK - log_p_NK
        if alpha == beta == 0:
            return gap_NK.square() / 2, gap_NK
        if beta == 0:
            p_NK, q_NK = (alpha * log_p_NK).exp(), (alpha * log_q_NK).exp()
            return (q_NK - p_NK) / alpha - p_NK * gap_NK, q_NK - p_NK
        if alpha == 0:
            p_NK, q_NK = (beta * log_p_NK).exp(), (beta * log_q_NK).exp()
            return (p_NK - q_NK) / beta + q_NK * gap_NK, beta * q_NK * gap_NK
        both, mixed_NK = alpha + beta, (alpha * log_p_NK + beta * log_q_NK).exp()
        p_NK, q_NK = (both * log_p_NK).exp(), (both * log_q_NK).exp()
        value_NK = (alpha / both * p_NK + beta / both * q_NK - mixed_NK) / (alpha * beta)
        return value_NK, (q_NK - mixed_NK) / alpha
