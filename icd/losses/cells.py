"""Losses over the cells of a feature map: scale decoupling (SDD) and clustering (iCD).

Shape key:
    B: batch    C: channels    H, W: height, width    K: classes
    m: scale, the map is cut into m x m cells    M: cells of one scale, m * m    P: cells of all scales, coarse to fine
"""

import math
from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from icd.kept import kept
from icd.losses.base import BaseLoss, in_full_precision

Gram = Literal["cells", "classes", "samples"]


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
    pooling_PL = _pooling(height, width, tuple(scales), grid, *like)
    # Channels last before the product: a view where the map is stored that way, and the order the head wants.
    cells_BPC = pooling_PL @ features_BCHW.permute(0, 2, 3, 1).flatten(1, 2)
    logits_BPK: Tensor = head(cells_BPC)
    return logits_BPK


@kept
def _pooling(
    height: int, width: int, scales: tuple[int, ...], grid: int | None, device: torch.device, dtype: torch.dtype
) -> Tensor:
    """Averaging as a matrix [P, H * W]: deterministic on every device, one product for all scales."""
    blocks = []
    for scale in scales:
        if grid is not None and grid % scale == 0:
            blocks.append(bins(grid, grid, scale) @ bins(height, width, grid))
        else:
            blocks.append(bins(height, width, scale))
    return torch.cat(blocks).to(dtype).to(device)


def bins(height: int, width: int, scale: int) -> Tensor:
    """Adaptive average pooling of a map to scale x scale, as a float64 matrix [scale * scale, height * width]."""
    size = height * width
    basis = torch.eye(size, dtype=torch.float64).reshape(size, 1, height, width)
    return F.adaptive_avg_pool2d(basis, scale).reshape(size, scale * scale).T.contiguous()


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
    round; all others are consistent. The student's prediction plays no part.

    Source: SDD (Wei et al., CVPR 2024), section 3.3; weights 1 and 2 and the plain mean over cells from its code.
    Deviation: the authors replace a non-finite loss by a zero without gradient; here it stays what it is, and the
    training loop raises.

    Args:
        base_loss: Loss of one row of logits.
        student_BPK: Cell logits; receives gradients.
        teacher_BPK: Cell logits of the teacher.
        labels_B: True classes.
        teacher_right_B: Whether the teacher is right on the whole image.
        consistent_weight: w of cells that agree with the whole image.
        complementary_weight: w of cells that do not.
        cell_weights_P: c, usually summing to 1.
        cell_right_BP: Whether the teacher is right on each cell; None asks its logits, which must not be rounded.

    Returns:
        A scalar.
    """
    batch, cells, _ = student_BPK.shape
    labels_N = labels_B.repeat_interleave(cells)
    loss_BP = base_loss(student_BPK.flatten(0, 1), teacher_BPK.flatten(0, 1), labels_N).reshape(batch, cells)
    if cell_right_BP is None:
        cell_right_BP = teacher_BPK.argmax(dim=2) == labels_B.unsqueeze(1)
    complementary_BP = cell_right_BP != teacher_right_B.unsqueeze(1)
    weight_BP = torch.where(complementary_BP, complementary_weight, consistent_weight).to(loss_BP.dtype)
    if cell_weights_P is None:
        return (weight_BP * loss_BP).mean()
    return (weight_BP * loss_BP * cell_weights_P.to(loss_BP)).sum(dim=1).mean()


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

    Returns:
        A scalar, before the cluster weight.

    Raises:
        ValueError: If scales, weights and cells do not fit together.
    """
    if sum(scale * scale for scale in scales) != student_BPK.shape[1] or len(weights) != len(scales):
        raise ValueError(
            f"scales, weights and cells must fit together, but got scales {tuple(scales)}, {len(weights)} weights and "
            f"{student_BPK.shape[1]} cells"
        )
    student_BPK = F.normalize(in_full_precision(student_BPK), dim=2)
    teacher_BPK = F.normalize(in_full_precision(teacher_BPK.detach()), dim=2)
    sizes = [scale * scale for scale in scales]
    total = student_BPK.new_zeros(())
    for weight, student_BMK, teacher_BMK in zip(
        weights, torch.split(student_BPK, sizes, dim=1), torch.split(teacher_BPK, sizes, dim=1), strict=True
    ):
        if weight == 0 or (gram == "cells" and student_BMK.shape[1] == 1):
            continue  # a softmax over one number is 1 whatever the number
        total = total + weight * _gram_divergence(student_BMK, teacher_BMK, temperature, gram)
    factor = temperature**2 if temperature_squared else 1.0
    return factor * total


def _gram_divergence(student_BMK: Tensor, teacher_BMK: Tensor, temperature: float, gram: Gram) -> Tensor:
    log_student = F.log_softmax(_gram_rows(student_BMK, gram) / temperature, dim=-1)
    log_teacher = F.log_softmax(_gram_rows(teacher_BMK, gram) / temperature, dim=-1)
    return (log_teacher.exp() * (log_teacher - log_student)).sum() / student_BMK.shape[0]


def _gram_rows(unit_BMK: Tensor, gram: Gram) -> Tensor:
    if gram == "cells":
        return unit_BMK @ unit_BMK.transpose(1, 2)
    if gram == "classes":
        return unit_BMK.unsqueeze(3) * unit_BMK.unsqueeze(2)
    unit_MBK = unit_BMK.transpose(0, 1)
    return unit_MBK @ unit_MBK.transpose(1, 2)


def paper_scale_weights(scales: Sequence[int]) -> tuple[float, ...]:
    """Weights of the scales in the authors' cluster term: proportional to 1 + log2 m, summing to 1.

    {1, 2, 4} gives 1/6, 2/6, 3/6 and {1, 2} gives 1/3, 2/3, as in their code.
    """
    raw = [1 + math.log2(scale) for scale in scales]
    return tuple(weight / sum(raw) for weight in raw)
