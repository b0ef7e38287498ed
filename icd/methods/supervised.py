"""Training without a teacher: how teachers are made, and the baseline of every student."""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from icd.methods.base import NetworkOutputs, Step, WeightlessMethod, cross_entropy


@dataclass(frozen=True, slots=True, kw_only=True)
class CrossEntropy(WeightlessMethod):
    """Cross entropy alone; no teacher."""

    title: ClassVar[str] = "cross entropy, no teacher"
    needs_teacher: ClassVar[bool] = False

    def terms(self, student: NetworkOutputs, teacher: NetworkOutputs | None, step: Step) -> dict[str, Tensor]:
        """Return the term ``ce``."""
        return {"ce": cross_entropy(student, step)}
