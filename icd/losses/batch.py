"""Base losses whose rows depend on each other: correlations over the batch (DIST), and several levels at once (MLKD).

On cells each place of the map is a batch of its own: the same place of all images.

Shape key:
    B: batch    P: cells of all scales    K: classes
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from icd.fields import Checked, NonNegative, Positive
from icd.losses.rows import kl_and_gradient, with_gradient


@dataclass(frozen=True, slots=True, kw_only=True)
class Correlations(Checked):
    r"""One minus the correlation of probabilities: of an image over the classes, and of a class over the batch.

    .. math:: \ell_b = \beta \tau^2 \, (1 - r(q_b, p_b))
              + \gamma \tau^2 \Big(1 - \frac{1}{K} \sum_k r(q_{\cdot k}, p_{\cdot k})\Big)

    with r(a, b) = <a', b'> / (|a'| |b'| + 1e-8), a' = a - mean(a), and probabilities at temperature tau.

    Source: Huang et al., NeurIPS 2022 (DIST), code hunto/image_classification_sota, where tau = 4 is CIFAR-100's.
    Deviation: none.

    Attributes:
        temperature: tau.
        beta: Weight of the part over the classes.
        gamma: Weight of the part over the batch.
    """

    title: ClassVar[str] = "DIST, Huang et al., NeurIPS 2022"
    per_batch: ClassVar[bool] = True

    temperature: Positive = 4.0
    beta: NonNegative = 1.0
    gamma: NonNegative = 1.0

    def __call__(self, student_BPK: Tensor, teacher_BPK: Tensor, labels_B: Tensor) -> Tensor:
        """Return the loss of each cell, shape [B, P]; labels are not used."""
        q_BPK, p_BPK = (F.softmax(side / self.temperature, dim=2) for side in (student_BPK, teacher_BPK))
        over_classes_BP = 1 - _correlation(q_BPK, p_BPK, dim=2)
        over_batch_P = 1 - _correlation(q_BPK, p_BPK, dim=0).mean(dim=1)
        return self.temperature**2 * (self.beta * over_classes_BP + self.gamma * over_batch_P)


def _correlation(a: Tensor, b: Tensor, dim: int) -> Tensor:
    a, b = a - a.mean(dim=dim, keepdim=True), b - b.mean(dim=dim, keepdim=True)
    lengths: Tensor = torch.linalg.vector_norm(a, dim=dim) * torch.linalg.vector_norm(b, dim=dim)
    return (a * b).sum(dim=dim) / (lengths + 1e-8)


@dataclass(frozen=True, slots=True, kw_only=True)
class MultiLevel(Checked):
    r"""KL divergence at several temperatures, and the Gram matrices of probabilities between classes and images.

    .. math:: \ell_b = \sum_T \Big[ m \, T^2 \, KL_T(p_b \,\|\, q_b)
              + c \, \frac{1}{K} \| Q^\top Q - P^\top P \|_F^2 + m \, \frac{1}{B} \| Q Q^\top - P P^\top \|_F^2 \Big]

    over T and 2, 3, 5, 6. P and Q hold the batch's probabilities at T, [B, K]. m is the share of images whose largest
    probability by the teacher, at temperature 1, is at most the batch's median; c that of classes whose summed
    probability is.

    Source: Jin et al., CVPR 2023 (MLKD), as zju-SWJ/RLD ported it to one view (``MLKD_NOAUG``).
    Deviation: the authors add a second, strongly augmented view, which a trial here does not have. m and c were meant
    to select rows and classes; the code multiplies by their share, and so do we.
    """

    title: ClassVar[str] = "MLKD on one view, Jin et al., CVPR 2023"
    per_batch: ClassVar[bool] = True

    temperature: Positive = 4.0

    def __call__(self, student_BPK: Tensor, teacher_BPK: Tensor, labels_B: Tensor) -> Tensor:
        """Return the loss of each cell, shape [B, P]; labels are not used."""
        image_share_P, class_share_P = self.shares(teacher_BPK)
        instance_BP, classes_P, images_P = self.levels(student_BPK, teacher_BPK)
        return image_share_P * (instance_BP + images_P) + class_share_P * classes_P

    def levels(self, student_BPK: Tensor, teacher_BPK: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the three levels before their shares: of rows [B, P], of classes [P] and of images [P]."""
        batch, cells, num_classes = student_BPK.shape
        instance_BP = student_BPK.new_zeros(batch, cells)
        classes_P, images_P = student_BPK.new_zeros(cells), student_BPK.new_zeros(cells)
        sides = student_BPK, teacher_BPK
        for temperature in (self.temperature, 3.0, 5.0, 2.0, 6.0):  # a temperature that is named twice counts twice
            student_NK, teacher_NK = (side_BPK.flatten(0, 1) for side_BPK in sides)
            with torch.no_grad():
                kl_N, slope_NK = kl_and_gradient(student_NK, teacher_NK, temperature)
            instance_BP = instance_BP + with_gradient(student_NK, kl_N, slope_NK).reshape(batch, cells)
            q_PBK, p_PBK = (F.softmax(side_BPK / temperature, dim=2).transpose(0, 1) for side_BPK in sides)
            classes_P = classes_P + (q_PBK.mT @ q_PBK - p_PBK.mT @ p_PBK).square().sum(dim=(1, 2)) / num_classes
            images_P = images_P + (q_PBK @ q_PBK.mT - p_PBK @ p_PBK.mT).square().sum(dim=(1, 2)) / batch
        return instance_BP, classes_P, images_P

    def shares(self, teacher_BPK: Tensor) -> tuple[Tensor, Tensor]:
        """Return the share of images and of classes at or below their median, each [P]."""
        p_BPK = F.softmax(teacher_BPK, dim=2)
        return _at_most_median(p_BPK.amax(dim=2)), _at_most_median(p_BPK.sum(dim=0).mT)


def _at_most_median(values: Tensor) -> Tensor:
    """Share of the first dimension at or below its median; the mean of the middle two where their number is even."""
    ordered = values.sort(dim=0).values
    low, high = ordered[(len(values) - 1) // 2], ordered[len(values) // 2]
    return (values <= (low + high) / 2).to(values.dtype).mean(dim=0)
