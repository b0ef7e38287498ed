"""Relations between classes (LDRLD, a base loss) and between images (SP, a loss on features).

Shape key:
    N: rows    K: classes    k: the student's top classes    P: pairs of them    B: batch    D: flattened features
"""

from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from icd.fields import NonNegative, Positive, Range
from icd.losses.base import RowLoss
from icd.losses.rows import in_full_precision, kl_and_gradient, no_autocast, pair_kl


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalRelations(RowLoss):
    r"""KL divergences over all pairs of the student's top classes, and over all classes outside the top.

    .. math:: \ell_n = \alpha \frac{\sum_{i<j} w_{ij} \, l_{ij} + w_{full} \, l_{1..k}}{k(k-1)/2 + 1}
              + \beta \, l_{rest}, \qquad w_{ij} = \frac{a}{b + (j - i)} e^{-r (i + j)}

    l over a set of classes is T^2 KL(teacher || student), both normalised over that set; i and j are ranks from 1 in
    the *student's* logits. The first factor of w is the inverse rank weight (IRW), the second the exponential rank
    decay (ERD). The label is not used: "rest" are the classes outside the top k, target or not.

    Source: LDRLD, arXiv 2507.15911; constants a = 2, b = 1.5, r = 0.05 from its code, ``distiller_zoo/LDRLD.py``.
    Deviation: none from the code; with k = 2 the full set is the one pair again and gets its weight, as there.
    The code walks over the subsets recursively and fails from k = 45 on; this does not. More than there are classes is
    a ValueError.
    """

    title: ClassVar[str] = "LDRLD, arXiv 2507.15911"

    temperature: Positive = 4.0
    k: Annotated[int, Range(at_least=2)] = 7
    alpha: NonNegative = 10.5
    beta: NonNegative = 7.0
    rank_scale: NonNegative = 2.0
    rank_offset: Annotated[float, Range(above=-1)] = 1.5
    rank_decay: NonNegative = 0.05
    full_weight: NonNegative = 1.0

    def value_and_gradient(self, student_NK: Tensor, teacher_NK: Tensor, labels_N: Tensor) -> tuple[Tensor, Tensor]:
        num_classes = student_NK.shape[1]
        if self.k > num_classes:
            raise ValueError(f"k <= number of classes ({num_classes}) must hold, but got {self.k}")
        top_Nk = student_NK.topk(self.k, dim=1).indices
        local_N, local_Nk = self._local(student_NK.gather(1, top_Nk), teacher_NK.gather(1, top_Nk))
        # With every class in the top the authors' mask shifts all logits alike: plain KD over all classes.
        without_Nk = top_Nk if self.k < num_classes else None
        rest_N, gradient_NK = kl_and_gradient(student_NK, teacher_NK, self.temperature, without_Nk)
        gradient_NK.mul_(self.beta).scatter_add_(1, top_Nk, local_Nk.mul_(self.alpha))
        return self.alpha * local_N + self.beta * rest_N, gradient_NK

    def _local(self, student_Nk: Tensor, teacher_Nk: Tensor) -> tuple[Tensor, Tensor]:
        """Give the local part and its gradient by the student's top logits."""
        rank_k = torch.arange(self.k, device=student_Nk.device, dtype=student_Nk.dtype)
        first_P, second_P = rank_k[torch.triu_indices(self.k, self.k, offset=1, device=rank_k.device)]
        inverse_rank_P = self.rank_scale / (self.rank_offset + second_P - first_P)
        weight_P = inverse_rank_P * torch.exp(-self.rank_decay * (first_P + second_P + 2))
        # +1 and -1 at a pair's two classes: products are faster than picking, and add in one order on any device.
        sign_Pk = (rank_k == first_P[:, None]).to(rank_k) - (rank_k == second_P[:, None]).to(rank_k)
        gap_NP, teacher_gap_NP = (side_Nk @ sign_Pk.T / self.temperature for side_Nk in (student_Nk, teacher_Nk))
        full_weight = weight_P[0] if self.k == 2 else self.full_weight
        full_N, full_Nk = kl_and_gradient(student_Nk, teacher_Nk, self.temperature)
        value_N = self.temperature**2 * (weight_P * pair_kl(gap_NP, teacher_gap_NP)).sum(dim=1) + full_weight * full_N
        pull_NP = (gap_NP.sigmoid() - teacher_gap_NP.sigmoid()) * (self.temperature * weight_P)
        gradient_Nk = pull_NP @ sign_Pk + full_weight * full_Nk
        return value_N / (weight_P.numel() + 1), gradient_Nk / (weight_P.numel() + 1)


def similarity_loss(student_features: Tensor, teacher_features: Tensor) -> Tensor:
    r"""Squared difference of the two batches' similarity matrices.

    .. math:: L = \frac{1}{B^2} \| \hat G^T - \hat G^S \|_F^2, \qquad G = F F^\top

    with F the features flattened to [B, D] and every row of G divided by its L2 norm.

    Source: Tung and Mori, ICCV 2019 (SP), eq. 4, one layer. All reference repositories agree.

    Args:
        student_features: [B, ...] of any shape; receives gradients.
        teacher_features: [B, ...], of another shape if need be.

    Returns:
        A scalar, unweighted (the authors multiply by 3000).
    """
    gap_BB = _similarity(teacher_features.detach()) - _similarity(student_features)
    return gap_BB.square().mean()


def _similarity(features: Tensor) -> Tensor:
    rows_BD = in_full_precision(features).flatten(1)
    with no_autocast(rows_BD):
        return F.normalize(rows_BD @ rows_BD.T, dim=1)
