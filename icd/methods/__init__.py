"""Methods by name, and the twelve rows of the iCD paper's Table 1 as values.

Adding a method is one frozen dataclass with its module, and one row in ``METHODS``.
"""

from collections.abc import Mapping

from icd.losses import DecoupledKD, KnowledgeDistillation, LocalRelations, NormalizedKD
from icd.methods.base import BuiltMethod, LiveOutputs, Method, MethodSetup, NetworkOutputs, Step
from icd.methods.cells import CellDistillation
from icd.methods.features import ContrastiveRepresentation, SimilarityPreserving
from icd.methods.supervised import CrossEntropy
from icd.registry import Registry

METHODS: Registry[type[Method]] = Registry(
    "method",
    {
        "cross_entropy": CrossEntropy,
        "distill": CellDistillation,
        "sp": SimilarityPreserving,
        "crd": ContrastiveRepresentation,
    },
)

# Settings of the runs behind Table 1 as far as they are known (docs/methods.md says how): KD family weights 0.1 / 0.9
# without warm-up, others 1 / 1 with 20 epochs; beta and the SD-NKD gamma are the iCD repository's default, 2; the
# cluster weight is 2 for iCD-KD and 8 for iCD-DKD and iCD-NKD.
_KD = KnowledgeDistillation(temperature=4.0)
_DKD = DecoupledKD(temperature=4.0, alpha=1.0, beta=2.0)
_NKD = NormalizedKD(temperature=1.0, gamma=1.5)
_CELL_NKD = NormalizedKD(temperature=4.0, gamma=2.0)

PAPER_ROWS: Mapping[str, Method] = {
    "SP": SimilarityPreserving(),
    "CRD": ContrastiveRepresentation(),
    "LDRLD": CellDistillation(base_loss=LocalRelations(), scales=(1,)),
    "KD": CellDistillation(base_loss=_KD, scales=(1,), ce_weight=0.1, base_weight=0.9),
    "SD-KD": CellDistillation(base_loss=_KD, ce_weight=0.1, base_weight=0.9),
    "iCD-KD": CellDistillation(base_loss=_KD, ce_weight=0.1, base_weight=0.9, cluster_weight=2.0),
    "DKD": CellDistillation(base_loss=_DKD, scales=(1,), warmup_epochs=20.0),
    "SD-DKD": CellDistillation(base_loss=_DKD, warmup_epochs=20.0),
    "iCD-DKD": CellDistillation(base_loss=_DKD, warmup_epochs=20.0, cluster_weight=8.0),
    "NKD": CellDistillation(base_loss=_NKD, scales=(1,), warmup_epochs=20.0),
    "SD-NKD": CellDistillation(base_loss=_CELL_NKD, warmup_epochs=20.0),
    "iCD-NKD": CellDistillation(base_loss=_CELL_NKD, warmup_epochs=20.0, cluster_weight=8.0),
}

__all__ = [
    "METHODS",
    "PAPER_ROWS",
    "BuiltMethod",
    "CellDistillation",
    "ContrastiveRepresentation",
    "CrossEntropy",
    "LiveOutputs",
    "Method",
    "MethodSetup",
    "NetworkOutputs",
    "SimilarityPreserving",
    "Step",
]
