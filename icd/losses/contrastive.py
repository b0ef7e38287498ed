"""Contrastive representation distillation: tell the matching teacher feature from thousands of others.

Shape key:
    B: batch    C: pooled feature channels    D: embedding width    J: contrasts of one image, 1 positive + k negatives
"""

from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from icd.losses.rows import in_full_precision, no_autocast

ContrastMode = Literal["exact", "relaxed"]


class ContrastiveMemory(nn.Module):
    r"""Two trainable embeddings and a memory of every training image's embedding on both sides.

    .. math:: x_{bj} = \exp(\langle m_{j}, v_b \rangle / \tau) / Z, \qquad
              nce(x) = -\frac{1}{B} \sum_b \left[ \log \frac{x_{b0}}{x_{b0} + c + \epsilon}
                       + \sum_{j \ge 1} \log \frac{c}{x_{bj} + c + \epsilon} \right], \quad c = k / n

    with n the number of training images. The student's embedding is compared with the teacher's memory and the other
    way round; the loss is the sum. Z is set once for each side, at the first step ever, to n times the mean
    unnormalised score. After the step the rows of the batch move towards their new embedding and are normalised again.

    Source: Tian et al., ICLR 2020 (CRD); constants and the fixed Z from RepDistiller.
    Deviation: none. As there, temperature and Z live in float32 whatever the dtype of the features. Rows are normalised
    with torch's 1e-12, which acts on an exact zero row only; the authors have no epsilon.

    Args:
        width: D.
        temperature: tau.
        momentum: How much of the old memory row stays.
    """

    student_memory: Tensor
    teacher_memory: Tensor
    partition: Tensor
    temperature: Tensor

    def __init__(
        self,
        student_channels: int,
        teacher_channels: int,
        num_images: int,
        *,
        width: int = 128,
        temperature: float = 0.07,
        momentum: float = 0.5,
    ) -> None:
        super().__init__()
        self.student_embedding = nn.Linear(student_channels, width)
        self.teacher_embedding = nn.Linear(teacher_channels, width)
        self.momentum = momentum
        bound = (3 / width) ** 0.5
        for name in ("student_memory", "teacher_memory"):
            self.register_buffer(name, torch.empty(num_images, width).uniform_(-bound, bound))
        # Zero means "not set yet": a real Z is a mean of exponentials, above zero.
        self.register_buffer("partition", torch.zeros(2, dtype=torch.float32))
        self.register_buffer("temperature", torch.tensor(temperature, dtype=torch.float32), persistent=False)

    def forward(
        self, student_BC: Tensor, teacher_BC: Tensor, indices_B: Tensor, contrasts_BJ: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return the student side's and the teacher side's loss, both scalars, and update the memory.

        Automatic mixed precision is kept away: the exponential of a score over 0.07 has no digit left in bfloat16.

        Args:
            student_BC: Pooled student features; receives gradients.
            teacher_BC: Pooled teacher features; gradients reach the teacher's embedding, not the teacher.
            indices_B: Each image's position in the training set; those memory rows are updated.
            contrasts_BJ: Positions to compare with, the positive in column 0.
        """
        with no_autocast(student_BC):
            student_BD = F.normalize(self.student_embedding(in_full_precision(student_BC)), dim=1)
            teacher_BD = F.normalize(self.teacher_embedding(in_full_precision(teacher_BC.detach())), dim=1)
            student_loss = self._side(0, self.teacher_memory, student_BD, contrasts_BJ)
            teacher_loss = self._side(1, self.student_memory, teacher_BD, contrasts_BJ)
            with torch.no_grad():
                self._remember(self.student_memory, indices_B, student_BD)
                self._remember(self.teacher_memory, indices_B, teacher_BD)
        return student_loss, teacher_loss

    def _side(self, side: int, memory_ND: Tensor, embedding_BD: Tensor, contrasts_BJ: Tensor) -> Tensor:
        # A gather makes a copy, so the update of the memory below does not disturb the backward pass.
        score_BJ = torch.einsum("bjd,bd->bj", memory_ND[contrasts_BJ], embedding_BD)
        raw_BJ = torch.exp(score_BJ / self.temperature.to(score_BJ.dtype))
        with torch.no_grad():
            fresh = (raw_BJ.mean() * memory_ND.shape[0]).to(torch.float32)
            self.partition[side] = torch.where(self.partition[side] > 0, self.partition[side], fresh)
        scores_BJ = raw_BJ / self.partition[side].clone().to(raw_BJ.dtype)
        return nce_loss(scores_BJ, num_images=memory_ND.shape[0])

    def _remember(self, memory_ND: Tensor, indices_B: Tensor, embedding_BD: Tensor) -> None:
        mixed_BD = self.momentum * memory_ND[indices_B] + (1 - self.momentum) * embedding_BD
        memory_ND[indices_B] = F.normalize(mixed_BD, dim=1).to(memory_ND.dtype)


def nce_loss(scores_BJ: Tensor, *, num_images: int) -> Tensor:
    """Noise-contrastive estimate: column 0 is the positive, all other columns noise drawn uniformly.

    Source: Tian et al., ICLR 2020, appendix; the epsilon 1e-7 is RepDistiller's.

    Returns:
        A scalar, summed over contrasts, mean over the batch.
    """
    batch, columns = scores_BJ.shape
    noise = (columns - 1) / num_images
    denominator_BJ = scores_BJ + noise + 1e-7
    positive = (scores_BJ[:, 0] / denominator_BJ[:, 0]).log().sum()
    negatives = (noise / denominator_BJ[:, 1:]).log().sum()
    return -(positive + negatives) / batch


def draw_contrasts(
    indices_B: np.ndarray,
    labels_N: np.ndarray,
    num_negatives: int,
    *,
    mode: ContrastMode,
    generator: np.random.Generator,
) -> np.ndarray:
    """Draw what each image is compared with, shape [B, 1 + num_negatives], the positive first.

    Negatives are uniform over the images of other classes, without replacement while there are enough of them. The
    positive is the image itself (``exact``) or any image of its class, possibly itself (``relaxed``).

    Source: RepDistiller ``dataset/cifar100.py``.
    """
    rows = []
    for index in indices_B:
        same = labels_N == labels_N[index]
        others = np.flatnonzero(~same)
        if not len(others):
            raise ValueError("CRD needs at least two classes to contrast, but the training set has one")
        negatives = generator.choice(others, num_negatives, replace=num_negatives > len(others), shuffle=False)
        positive = index if mode == "exact" else generator.choice(np.flatnonzero(same))
        rows.append(np.concatenate([[positive], negatives]))
    return np.stack(rows)
