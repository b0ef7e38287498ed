"""Gram matrices of cells for figures: what the cluster term compares, for a few fixed images.

Shape key:
    B: batch    C: channels    H, W: height, width    K: classes
    m: scale    M: cells of one scale, m * m    P: cells of all scales
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from icd.losses.cells import cell_logits
from icd.models.output import Network


def gram_matrices(
    student: Network,
    teacher: Network,
    images_BCHW: Tensor,
    scales: Sequence[int],
    temperature: float,
    grid: int | None = 4,
) -> dict[int, tuple[Tensor, Tensor]]:
    """Give for each scale >= 2 the student's and the teacher's [B, M, M]; rows sum to 1.

    A row is softmax(cosine of one cell's logits with those of all cells / temperature), as ``cluster_loss`` compares
    it with ``gram="cells"``. Scale 1 is left out: its matrix is the number 1. Both networks are evaluated without
    gradients and keep their mode.
    """
    wanted = [scale for scale in scales if scale > 1]
    if not wanted:
        return {}
    sizes = [scale * scale for scale in wanted]
    student_grams, teacher_grams = (
        [_rows(cells_BMK, temperature) for cells_BMK in torch.split(_cells(side, images_BCHW, wanted, grid), sizes, 1)]
        for side in (student, teacher)
    )
    return dict(zip(wanted, zip(student_grams, teacher_grams, strict=True), strict=True))


def _cells(network: Network, images_BCHW: Tensor, scales: Sequence[int], grid: int | None) -> Tensor:
    training = network.training
    network.eval()
    try:
        with torch.no_grad():
            return cell_logits(network(images_BCHW).features_BCHW, network.head, scales, grid=grid)
    finally:
        network.train(training)


def _rows(cells_BMK: Tensor, temperature: float) -> Tensor:
    unit_BMK = F.normalize(cells_BMK.float(), dim=2)
    return torch.softmax(unit_BMK @ unit_BMK.transpose(1, 2) / temperature, dim=2).cpu()
