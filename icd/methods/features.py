"""Methods without cells: no teacher at all, SP between images of a batch, CRD against a memory of all images."""

from dataclasses import dataclass
from typing import Annotated, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from icd.fields import Checked, Count, NonNegative, Positive, Range
from icd.losses.contrastive import ContrastiveMemory, ContrastMode, draw_contrasts
from icd.losses.relational import similarity_loss
from icd.methods.base import MethodSetup, NetworkOutputs, Step, WeightlessMethod, cross_entropy, teacher_of
from icd.methods.contrasts import DeviceContrasts
from icd.models.seeding import initial_weights


@dataclass(frozen=True, slots=True, kw_only=True)
class CrossEntropy(WeightlessMethod):
    """Cross entropy alone, without a teacher: how teachers are made, and the baseline of every student."""

    title: ClassVar[str] = "cross entropy, no teacher"
    needs_teacher: ClassVar[bool] = False

    def terms(self, student: NetworkOutputs, teacher: NetworkOutputs | None, step: Step) -> dict[str, Tensor]:
        """Return the term ``ce``."""
        return {"ce": cross_entropy(student, step)}


@dataclass(frozen=True, slots=True, kw_only=True)
class SimilarityPreserving(WeightlessMethod):
    """Cross entropy plus the SP loss on the last block's output.

    Source: Tung and Mori, ICCV 2019; weight 3000 from every reference repository.
    """

    title: ClassVar[str] = "SP, Tung and Mori, ICCV 2019"
    needs_teacher: ClassVar[bool] = True

    ce_weight: NonNegative = 1.0
    similarity_weight: NonNegative = 3000.0

    def terms(self, student: NetworkOutputs, teacher: NetworkOutputs | None, step: Step) -> dict[str, Tensor]:
        """Return the terms ``ce`` and ``similarity``."""
        similarity = similarity_loss(student.block_BCHW, teacher_of(teacher).block_BCHW)
        return {
            "ce": self.ce_weight * cross_entropy(student, step),
            "similarity": self.similarity_weight * similarity,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class ContrastiveRepresentation(Checked):
    """Cross entropy plus contrastive representation distillation on pooled features.

    Source: Tian et al., ICLR 2020 (CRD); defaults from RepDistiller.
    Deviation: negatives come from a counter-based generator, so a resumed run draws the same ones; on a GPU they are
    drawn there, with replacement.

    Attributes:
        ce_weight: Weight of cross entropy.
        contrast_weight: Weight of the contrastive term.
        num_negatives: k, images each one is compared with.
        temperature: tau of the scores.
        momentum: How much of the old memory row stays.
        width: Size of the embeddings.
        mode: The positive is the image itself (``exact``) or any of its class (``relaxed``).
    """

    title: ClassVar[str] = "CRD, Tian et al., ICLR 2020"
    needs_teacher: ClassVar[bool] = True

    ce_weight: NonNegative = 1.0
    contrast_weight: NonNegative = 0.8
    num_negatives: Count = 16384
    temperature: Positive = 0.07
    momentum: Annotated[float, Range(at_least=0, below=1)] = 0.5
    width: Count = 128
    mode: ContrastMode = "exact"

    def build(self, setup: MethodSetup | None = None) -> nn.Module:
        """Make the embeddings and the memory, with initial values that depend on the seed alone."""
        if setup is None:
            raise ValueError("CRD needs channels, labels and seed to make its embeddings, but got None")
        with initial_weights(setup.seed):
            return _ContrastTerms(self, setup)


class _ContrastTerms(nn.Module):
    def __init__(self, spec: ContrastiveRepresentation, setup: MethodSetup) -> None:
        super().__init__()
        self.spec, self.labels_N, self.seed = spec, setup.labels_N, setup.seed
        self.contrasts = DeviceContrasts(setup.labels_N, spec.num_negatives, spec.mode, setup.seed)
        self.memory = ContrastiveMemory(
            setup.student_channels,
            setup.teacher_channels,
            len(setup.labels_N),
            width=spec.width,
            temperature=spec.temperature,
            momentum=spec.momentum,
        )

    def forward(self, student: NetworkOutputs, teacher: NetworkOutputs | None, step: Step) -> dict[str, Tensor]:
        student_loss, teacher_loss = self.memory(
            student.features_BCHW.mean(dim=(2, 3)),
            teacher_of(teacher).features_BCHW.mean(dim=(2, 3)),
            step.indices_B,
            self._drawn(step),
        )
        return {
            "ce": self.spec.ce_weight * cross_entropy(student, step),
            "contrast": self.spec.contrast_weight * (student_loss + teacher_loss),
        }

    def _drawn(self, step: Step) -> Tensor:
        """Draw the contrasts of a batch, where its images lie."""
        if step.indices_B.device.type != "cpu":
            contrasts_BJ: Tensor = self.contrasts(step.indices_B, step.epoch, step.step)
            return contrasts_BJ
        counter = [self.seed % 2**64, (int(step.epoch) << 32) | int(step.step)]
        drawn_BJ = draw_contrasts(
            step.indices_B.numpy(),
            self.labels_N,
            self.spec.num_negatives,
            mode=self.spec.mode,
            generator=np.random.Generator(np.random.Philox(key=counter)),
        )
        return torch.from_numpy(drawn_BJ)
