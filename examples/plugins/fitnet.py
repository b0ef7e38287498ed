"""FitNet: the student's features, widened by a convolution that is trained with it, imitate the teacher's.

Source: Romero et al., ICLR 2015, as one stage beside cross entropy, which is how RepDistiller runs it.

Shape key:
    B: batch    C: channels    H, W: height, width
"""

from dataclasses import dataclass

import torch.nn.functional as F
from torch import nn

import icd
from icd.fields import NonNegative
from icd.methods.base import cross_entropy
from icd.models.seeding import initial_weights


@icd.register_method("fitnet")
@dataclass(frozen=True, kw_only=True)
class FitNet:
    """FitNet, Romero et al., ICLR 2015

    Attributes:
        ce_weight: Weight of cross entropy.
        hint_weight: Weight of the squared difference of features.
    """

    ce_weight: NonNegative = 1.0
    hint_weight: NonNegative = 100.0

    def build(self, setup):
        """Make the module, whose convolution depends on the seed alone."""
        with initial_weights(setup.seed):
            return _Terms(self, setup.student_channels, setup.teacher_channels)


class _Terms(nn.Module):
    def __init__(self, spec, student_channels, teacher_channels):
        super().__init__()
        self.spec = spec
        self.widen = nn.Conv2d(student_channels, teacher_channels, kernel_size=1)

    def forward(self, student, teacher, step):
        wide_BCHW, wanted_BCHW = self.widen(student.features_BCHW), teacher.features_BCHW.detach()
        side = min(wide_BCHW.shape[-1], wanted_BCHW.shape[-1])
        hint = F.mse_loss(F.adaptive_avg_pool2d(wide_BCHW, side), F.adaptive_avg_pool2d(wanted_BCHW, side))
        return {"ce": self.spec.ce_weight * cross_entropy(student, step), "hint": self.spec.hint_weight * hint}
