"""Losses over the cells of a feature map: scale decoupling (SDD) and clustering (iCD).

Shape key:
    B: batch    C: channels    H, W: height, width    K: classes
    m: scale, the map is cut into m x m cells    M: cells of one scale, m * m    P: cells of all scales, coarse to fine
"""

import math
from collections.abc import Sequence
from itertools import accumulate
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from icd.errors import ConfigError, Problem
from icd.kept import kept
from icd.losses.base import BaseLoss
from icd.losses.rows import in_full_precision, no_autocast, with_gradient

Gram = Literal["cells", "classes", "samples"]
_SHORTEST = 1e-12  # a shorter row is divided by this, as F.normalize does


def cell_logits(features_BCHW: Tensor, head: nn.Linear, scales: Sequence[int], *, grid: int | None = 4) -> Tensor:
    """Logits of every cell of every scale: average the map over the cell, then apply the network's own head.

    With ``grid=None`` cells are averaged straight from the map, so scale 1 gives the network's own logits. The authors
    first average to a 4 x 4 grid and coarser cells from that; it is the same only where 4 divides the map, because
    the grid's windows overlap otherwise (7 x 7: rows 0-1, 1-3, 3-5, 5-6). A scale that does not divide the grid is
    averaged from the map in any case. Cells repeat where the map is smaller than the scale.

    Source: SDD (Wei et al., CVPR 2024), section 3.2; grid from its code, ``models/cifar/utils.py``.

    Args:
        features_BCHW: Feature map after the last block, before pooling.
        head: The network's classifier, C to K.
        scales: m of each scale, in the order wanted.
        grid: Side of the grid to average to first; 4 reproduces the authors.

    Returns:
        Logits, shape [B, P, K], row-major inside a scale.
    """
    height, width = features_BCHW.shape[2:]
    like = features_BCHW.device, features_BCHW.dtype
    before_QS, after_PQ = _pooling(height, width, tuple(scales), grid, *like)
    # Channels last before the product: a view where the map is stored that way, and the order the head wants.
    rows_BSC = features_BCHW.permute(0, 2, 3, 1).flatten(1, 2)
    rows_BQC = rows_BSC if before_QS is None else before_QS @ rows_BSC
    logits_BQK: Tensor = head(rows_BQC)
    return logits_BQK if after_PQ is None else after_PQ.to(logits_BQK.dtype) @ logits_BQK


@kept
def _pooling(
    height: int, width: int, scales: tuple[int, ...], grid: int | None, device: torch.device, dtype: torch.dtype
) -> tuple[Tensor | None, Tensor | None]:
    """Averaging as matrices, before and after the head, such that the head sees as few rows as can be.

    The head is linear and every row of the matrices sums to 1, so averaging may come on either side of it. The head
    sees the cells themselves, or the grid they are cut from, or every place of a map that is smaller still.
    """
    cells = [
        bins(height, width, scale)
        if grid is None or grid % scale
        else bins(grid, grid, scale) @ bins(height, width, grid)
        for scale in scales
    ]
    choices: list[tuple[Tensor | None, Tensor | None]] = [(torch.cat(cells), None), (None, torch.cat(cells))]
    if grid is not None and not any(grid % scale for scale in scales):
        choices.append((bins(height, width, grid), torch.cat([bins(grid, grid, scale) for scale in scales])))
    fewest = min(choices, key=lambda pair: height * width if pair[0] is None else len(pair[0]))
    before_QS, after_PQ = (matrix if matrix is None else matrix.to(dtype).to(device) for matrix in fewest)
    return before_QS, after_PQ


def bins(height: int, width: int, scale: int) -> Tensor:
    """Adaptive average pooling of a map to scale x scale, as a float64 matrix [scale * scale, height * width]."""
    parts = torch.arange(height * width).split(256)  # each place takes a whole map, so never all at once
    maps = (F.one_hot(part, height * width).double().view(-1, 1, height, width) for part in parts)
    return torch.cat([F.adaptive_avg_pool2d(map_, scale).flatten(1) for map_ in maps]).T.contiguous()


def scale_loss(
    base_loss: BaseLoss,
    student_BPK: Tensor,
    teacher_BPK: Tensor,
    labels_B: Tensor,
    teacher_right_B: Tensor,
    *,
    consistent_weight: float = 1.0,
    complementary_weight: float = 2.0,
    cell_weights_P: Tensor | None = None,
    cell_right_BP: Tensor | None = None,
) -> Tensor:
    r"""Base loss over all cells; cells that disagree with the teacher's verdict on the whole image count more.

    .. math:: L = \frac{1}{B} \sum_b \sum_p c_p \, w_{bp} \, \ell_{bp}, \qquad c_p = 1/P \text{ by default}

    A cell is complementary when the teacher is right on the whole image and wrong on the cell, or the other way
    round; all others are consistent. Each kind has its weight w. The student's prediction plays no part.

    Source: SDD (Wei et al., CVPR 2024), section 3.3; weights 1 and 2 and the plain mean over cells from its code.
    Deviation: the authors replace a non-finite loss by a zero without gradient; here it stays what it is, and the
    training loop raises.

    Args:
        base_loss: Gives l of all cells.
        student_BPK: Cell logits; receives gradients.
        teacher_BPK: Cell logits of the teacher.
        labels_B: True classes.
        teacher_right_B: Whether the teacher is right on the whole image.
        consistent_weight: w of consistent cells.
        complementary_weight: w of complementary cells.
        cell_weights_P: c, usually summing to 1.
        cell_right_BP: Whether the teacher is right on each cell; None asks its logits, which must not be rounded.
    """
    loss_BP = loss_of_cells(base_loss, student_BPK, teacher_BPK, labels_B)
    if cell_right_BP is None:
        cell_right_BP = teacher_BPK.argmax(dim=2) == labels_B.unsqueeze(1)
    complementary_BP = cell_right_BP != teacher_right_B.unsqueeze(1)
    weight_BP = torch.where(complementary_BP, complementary_weight, consistent_weight).to(loss_BP.dtype)
    if cell_weights_P is None:
        return (weight_BP * loss_BP).mean()
    return (weight_BP * loss_BP * cell_weights_P.to(loss_BP)).sum(dim=1).mean()


def loss_of_cells(base_loss: BaseLoss, student_BPK: Tensor, teacher_BPK: Tensor, labels_B: Tensor) -> Tensor:
    """Call a base loss on all cells, as rows or, where it is ``per_batch``, as they are; gives [B, P].

    It sees float32 at least, nothing of the teacher's gradients, and is out of reach of automatic mixed precision.

    Raises:
        ConfigError: If it gives anything but one value for each cell.
    """
    batch, cells, _ = student_BPK.shape
    student, teacher = in_full_precision(student_BPK), in_full_precision(teacher_BPK.detach())
    labels, wanted = labels_B, [batch, cells]
    if not getattr(base_loss, "per_batch", False):
        student, teacher, labels = student.flatten(0, 1), teacher.flatten(0, 1), labels_B.repeat_interleave(cells)
        wanted = [batch * cells]
    with no_autocast(student):
        loss = base_loss(student, teacher, labels)
    shape = getattr(loss, "shape", None)
    if shape is None or list(shape) != wanted:
        rule, path = f"must give one value for each row, shape {wanted}", f"base loss {type(base_loss).__name__}"
        got = type(loss).__name__ if shape is None else list(shape)
        raise ConfigError(Problem(path=path, rule=rule, value=got))
    return loss.reshape(batch, cells)


def cluster_loss(
    student_BPK: Tensor,
    teacher_BPK: Tensor,
    scales: Sequence[int],
    weights: Sequence[float],
    *,
    temperature: float = 2.0,
    temperature_squared: bool = False,
    gram: Gram = "cells",
) -> Tensor:
    r"""KL divergence between the Gram matrices of cell logits, summed over scales.

    .. math:: L = \sum_m \omega_m \frac{1}{B} \sum_{rows} KL(softmax(G^T_{row} / \tau) \,\|\, softmax(G^S_{row} / \tau))

    G holds cosine similarities of cell logits (each cell's logits divided by their L2 norm):

    * ``cells``: between the cells of one scale, m^2 x m^2 for each image. The authors' code, and the default. Scale 1
      has a 1 x 1 matrix and adds exactly nothing.
    * ``classes``: between the classes of one cell, K x K for each cell (the outer product of its unit logits). The
      paper's notation G(m, n). Memory grows with B * P * K^2.
    * ``samples``: between the images of the batch, B x B for each cell.

    All rows of all matrices of a scale are summed and divided by B, so finer scales count more rows.

    Source: iCD (Xue et al., AAAI-26, arXiv 2509.12553), "Distillation"; code ``CD_SDD_*.py cluster_loss``.
    Deviation: temperature 2, the L2 norm and the sum over rows are in the code, not in the paper; the code has no
    factor tau^2 (``temperature_squared=False``) and ignores its own ``temperature`` argument.

    Args:
        student_BPK: Cell logits, scale after scale; receives gradients.
        teacher_BPK: Cell logits of the teacher, same order.
        scales: m of each scale, in the order of the cells.
        weights: omega of each scale.
        temperature: tau.
        temperature_squared: Multiply by tau^2, as distillation losses usually do.
        gram: Which similarities are compared.
    """
    student_BPK, teacher_BPK = in_full_precision(student_BPK), in_full_precision(teacher_BPK.detach())
    factor = temperature**2 if temperature_squared else 1.0
    parts = [
        (slice(end - scale * scale, end), factor * weight)
        for end, scale, weight in zip(accumulate(scale * scale for scale in scales), scales, weights, strict=True)
        # A softmax over one number is 1 whatever the number.
        if weight != 0 and not (gram == "cells" and scale == 1)
    ]
    with no_autocast(student_BPK):
        if gram == "cells":
            return _cells_divergence(student_BPK, teacher_BPK, parts, temperature)
        total = student_BPK.new_zeros(())
        for cells, weight in parts:
            total = total + weight * _gram_divergence(student_BPK[:, cells], teacher_BPK[:, cells], temperature, gram)
        return total


def _cells_divergence(
    student_BPK: Tensor, teacher_BPK: Tensor, parts: Sequence[tuple[slice, float]], temperature: float
) -> Tensor:
    r"""Sum of the divergences of the cells' Gram matrices, with its gradient.

    With unit rows X, G = X X^T and D = dL/dG = w / (tau B) * (softmax(G / tau) - softmax(G^T / tau)):
    dL/dX = (D + D^T) X, and the part along X is removed when the length is divided out.
    """
    with torch.no_grad():
        value = student_BPK.new_zeros(())
        gradient_BPK = torch.zeros_like(student_BPK)
        for cells, weight in parts:
            norm_BM1 = torch.linalg.vector_norm(student_BPK[:, cells], dim=2, keepdim=True).clamp_min_(_SHORTEST)
            unit_BMK, teacher_BMK = student_BPK[:, cells] / norm_BM1, F.normalize(teacher_BPK[:, cells], dim=2)
            log_BMM = F.log_softmax((unit_BMK @ unit_BMK.mT).div_(temperature), dim=2)
            log_teacher_BMM = F.log_softmax((teacher_BMK @ teacher_BMK.mT).div_(temperature), dim=2)
            teacher_BMM = log_teacher_BMM.exp()
            share = weight / len(student_BPK)
            value += share * (teacher_BMM * (log_teacher_BMM - log_BMM)).sum()
            by_gram_BMM = log_BMM.exp_().sub_(teacher_BMM).mul_(share / temperature)
            by_unit_BMK = (by_gram_BMM + by_gram_BMM.mT) @ unit_BMK
            along_BM1 = (by_unit_BMK * unit_BMK).sum(dim=2, keepdim=True)
            torch.sub(by_unit_BMK, unit_BMK.mul_(along_BM1), out=gradient_BPK[:, cells]).div_(norm_BM1)
    return with_gradient(student_BPK, value, gradient_BPK)


def _gram_divergence(student_BMK: Tensor, teacher_BMK: Tensor, temperature: float, gram: Gram) -> Tensor:
    log_student, log_teacher = (
        F.log_softmax(_gram_rows(F.normalize(side_BMK, dim=2), gram) / temperature, dim=-1)
        for side_BMK in (student_BMK, teacher_BMK)
    )
    return (log_teacher.exp() * (log_teacher - log_student)).sum() / student_BMK.shape[0]


def _gram_rows(unit_BMK: Tensor, gram: Gram) -> Tensor:
    if gram == "classes":
        return unit_BMK.unsqueeze(3) * unit_BMK.unsqueeze(2)
    unit_MBK = unit_BMK.transpose(0, 1)
    return unit_MBK @ unit_MBK.mT


def paper_scale_weights(scales: Sequence[int]) -> tuple[float, ...]:
    """Weights of the scales in the authors' cluster term: proportional to 1 + log2 m, summing to 1.

    {1, 2, 4} gives 1/6, 2/6, 3/6 and {1, 2} gives 1/3, 2/3, as in their code.
    """
    raw = [1 + math.log2(scale) for scale in scales]
    return tuple(weight / sum(raw) for weight in raw)
