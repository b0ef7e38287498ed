"""Training without a teacher: how teachers are made, and the baseline of every student."""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor, nn

from icd.methods.base import MethodSetup, NetworkOutputs, Step, cross_entropy


@dataclass(frozen=True, slots=True, kw_only=True)
class CrossEntropy:
    """Cross entropy alone; no teacher."""

    title: ClassVar[str] = "cross entropy, no teacher"
    needs_teacher: ClassVar[bool] = False

    def build(self, setup: MethodSetup | None = None) -> nn.Module:
        """Make the module; it has no weights of its own."""
        return _CrossEntropyTerm()


class _CrossEntropyTerm(nn.Module):
    def forward(self, student: NetworkOutputs, teacher: NetworkOutputs | None, step: Step) -> dict[str, Tensor]:
        return {"ce": cross_entropy(student, step)}
