"""Distillation from logits: one composition that is KD, SD-KD and iCD-KD, and the same for DKD, NKD and LDRLD.

    loss = ce_weight * CE + warmup(epoch) * base_weight * (base loss over cells) + cluster_weight * (cluster term)

With one scale, 1, the base loss sees the global logits: the plain method. With more scales it is SD-X, and with a
cluster weight above zero iCD-X.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import ClassVar, Literal

import torch
from torch import Tensor

from icd.fields import Count, FieldProblem, NonNegative, Positive, check_fields
from icd.losses import BaseLoss, KnowledgeDistillation
from icd.losses.cells import Gram, cluster_loss, paper_scale_weights, scale_loss
from icd.losses.rows import standardized
from icd.methods.base import NetworkOutputs, Step, WeightlessMethod, cross_entropy, teacher_of, warmup_factor, weighted


@dataclass(frozen=True, slots=True, kw_only=True)
class CellDistillation(WeightlessMethod):
    """A base loss over the cells of some scales, and the cluster term.

    Scales are kept in ascending order and both kinds of weights are kept normalised to sum 1, so that equal
    configurations are equal values.

    Source: SDD (CVPR 2024) for the scales, iCD (AAAI-26) for the cluster term.
    Deviation: scale sets without 1, weights, temperature, T^2 and the other Gram readings are ours; the published
    code knows {1}, {1,2}, {1,4} and {1,2,4} only. Defaults reproduce it.

    Attributes:
        base_loss: Loss of one row of logits.
        logit_standardization: Give the base loss z-scores of each row instead of logits (Sun et al., CVPR 2024); cross
            entropy and the cluster term see the logits.
        scales: m of each scale; (1,) is the plain method on the global logits.
        base_weight: Weight of the base term (0.9 for the KD family, 1 for others).
        ce_weight: Weight of cross entropy (0.1 for the KD family, 1 for others).
        warmup_epochs: The base term grows linearly over these epochs; 0 for none. CE and cluster term do not.
        consistent_weight: Weight of cells whose verdict equals the image's (SDD).
        complementary_weight: Weight of cells whose verdict differs (SDD).
        base_scale_weights: Share of each scale in the base term; None counts every cell alike, as SDD does.
        cluster_weight: Weight of the cluster term; 0 leaves it out.
        cluster_temperature: Temperature of the Gram matrices' softmax.
        cluster_temperature_squared: Multiply the cluster term by its temperature squared.
        cluster_scale_weights: Share of each scale in the cluster term; None takes the authors', 1 + log2 m. The share
            of scale 1 has no effect with ``gram: cells``.
        gram: Which similarities the cluster term compares.
        grid: Side of the grid that the map is averaged to before scales are cut; None for none.
        global_verdict: Whose prediction decides whether the teacher is right on the image: ``cell`` takes scale 1
            (global logits where scale 1 is not in the set), ``logits`` always the global logits.
        allow_repeated_cells: Accept scales finer than the feature map, whose cells repeat, as the authors do for
            MobileNetV2 at 32 pixels.
    """

    title: ClassVar[str] = "base loss over cells (SDD) and cluster term (iCD)"
    needs_teacher: ClassVar[bool] = True

    base_loss: BaseLoss = field(default_factory=KnowledgeDistillation)
    scales: tuple[Count, ...] = (1, 2, 4)
    base_weight: NonNegative = 1.0
    ce_weight: NonNegative = 1.0
    warmup_epochs: NonNegative = 0.0
    consistent_weight: NonNegative = 1.0
    complementary_weight: NonNegative = 2.0
    base_scale_weights: tuple[NonNegative, ...] | None = None
    cluster_weight: NonNegative = 0.0
    cluster_temperature: Positive = 2.0
    cluster_temperature_squared: bool = False
    cluster_scale_weights: tuple[NonNegative, ...] | None = None
    gram: Gram = "cells"
    grid: Count | None = 4
    global_verdict: Literal["cell", "logits"] = "cell"
    allow_repeated_cells: bool = False
    logit_standardization: bool = False

    def __post_init__(self) -> None:
        check_fields(self, *self.rules())
        order = sorted(range(len(self.scales)), key=self.scales.__getitem__)
        scales = tuple(self.scales[place] for place in order)
        cluster_scale_weights = _normalised(self.cluster_scale_weights, order) or _rounded(paper_scale_weights(scales))
        object.__setattr__(self, "scales", scales)
        object.__setattr__(self, "cluster_scale_weights", cluster_scale_weights)
        object.__setattr__(self, "base_scale_weights", _normalised(self.base_scale_weights, order))

    def rules(self) -> Iterator[FieldProblem]:
        """Give the fields that do not go together."""
        if not self.scales:
            yield FieldProblem("scales", "scales must name at least one scale", self.scales)
        if len(set(self.scales)) != len(self.scales):
            yield FieldProblem("scales", "scales must differ from each other", self.scales)
        for name in ("cluster_scale_weights", "base_scale_weights"):
            if rule := _broken_rule(getattr(self, name), len(self.scales)):
                yield FieldProblem(name, f"{name} {rule}", getattr(self, name))
        if self.ce_weight == self.base_weight == self.cluster_weight == 0:
            yield FieldProblem("base_weight", "ce_weight, base_weight or cluster_weight must be above 0", 0.0)

    def terms(self, student: NetworkOutputs, teacher: NetworkOutputs | None, step: Step) -> dict[str, Tensor]:
        """Return the terms ``ce``, ``base`` and ``cluster``; those with weight 0 are left out."""
        teacher, terms = teacher_of(teacher), {}
        if self.ce_weight:
            terms["ce"] = self.ce_weight * cross_entropy(student, step)
        if not (self.base_weight or self.cluster_weight):
            return terms
        student_BPK, teacher_BPK = self._cells(student), self._cells(teacher).detach()
        if self.base_weight:
            factor = self.base_weight * warmup_factor(step.epoch, self.warmup_epochs)
            terms["base"] = weighted(factor, self._base_term(student_BPK, teacher_BPK, teacher, step.labels_B))
        if self.cluster_weight and self.has_cluster_term:
            terms["cluster"] = self.cluster_weight * cluster_loss(
                student_BPK,
                teacher_BPK,
                self.scales,
                self.cluster_scale_weights or (),
                temperature=self.cluster_temperature,
                temperature_squared=self.cluster_temperature_squared,
                gram=self.gram,
            )
        return terms

    @property
    def has_cluster_term(self) -> bool:
        """Whether any scale can contribute to the cluster term; scale 1 alone cannot with ``gram: cells``."""
        shares = zip(self.scales, self.cluster_scale_weights or (), strict=True)
        return any(share and (scale > 1 or self.gram != "cells") for scale, share in shares)

    def _cells(self, side: NetworkOutputs) -> Tensor:
        # The authors use the global logits, not the grid's cell 0, when 1 is the only scale; they differ at 224 px.
        return side.logits_BK.unsqueeze(1) if self.scales == (1,) else side.cells(self.scales, self.grid)

    def _base_term(self, student_BPK: Tensor, teacher_BPK: Tensor, teacher: NetworkOutputs, labels_B: Tensor) -> Tensor:
        if self.scales == (1,):  # the global logits are the only cell
            cell_right_BP = teacher.logits_right(labels_B).unsqueeze(1)
        else:
            cell_right_BP = teacher.cells_right(self.scales, teacher_BPK, labels_B)
        if self.logit_standardization:
            student_BPK, teacher_BPK = standardized(student_BPK), standardized(teacher_BPK)
        from_cell = self.global_verdict == "cell" and self.scales[0] == 1
        return scale_loss(
            self.base_loss,
            student_BPK,
            teacher_BPK,
            labels_B,
            cell_right_BP[:, 0] if from_cell else teacher.logits_right(labels_B),
            consistent_weight=self.consistent_weight,
            complementary_weight=self.complementary_weight,
            cell_weights_P=self._cell_weights(student_BPK.device),
            cell_right_BP=cell_right_BP,
        )

    def _cell_weights(self, device: torch.device) -> Tensor | None:
        if self.base_scale_weights is None:
            return None
        # Filled on the device: numbers copied there would make every step wait for it.
        shares = [
            torch.full((scale**2,), weight / scale**2, device=device, dtype=torch.float64)
            for scale, weight in zip(self.scales, self.base_scale_weights, strict=True)
        ]
        return torch.cat(shares)


def _broken_rule(weights: tuple[float, ...] | None, scales: int) -> str:
    if weights is None:
        return ""
    if len(weights) != scales:
        return f"must give one weight for each of the {scales} scales"
    # Weights that are not numbers, or negative, are reported by their own range.
    numbers = all(math.isfinite(weight) and weight >= 0 for weight in weights)
    return "must have a sum above 0" if numbers and sum(weights) <= 0 else ""


def _normalised(weights: tuple[float, ...] | None, order: list[int]) -> tuple[float, ...] | None:
    if weights is None:
        return None
    placed = tuple(weights[place] for place in order)
    if abs(sum(placed) - 1) < 1e-9:  # normalised before; dividing again could move the last digit
        return _rounded(placed)
    largest = max(placed)  # first, because the sum of huge weights would overflow
    shares = [weight / largest for weight in placed]
    return _rounded(tuple(share / sum(shares) for share in shares))


def _rounded(weights: tuple[float, ...]) -> tuple[float, ...]:
    # 12 digits: (1, 2, 3) and (0.1, 0.2, 0.3) must become the same value.
    return tuple(round(weight, 12) for weight in weights)
