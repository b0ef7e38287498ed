"""Methods by name; the twelve rows of the iCD paper's Table 1, and those of rival losses, as values.

Adding a method is one frozen dataclass with its module, and one row in ``METHODS``.
"""

from collections.abc import Mapping
from dataclasses import replace

from icd.losses import (
    AlphaBetaDivergence,
    Correlations,
    DecoupledKD,
    KnowledgeDistillation,
    LocalRelations,
    NormalizedKD,
    RefinedLogits,
    TransformedTeacher,
)
from icd.methods.base import LiveOutputs, Method, MethodSetup, NetworkOutputs, Step
from icd.methods.cell_distillation import CellDistillation
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

# Settings of the runs behind Table 1 as far as they are known (docs/reference/methods.md says how): KD family weights
# 0.1 / 0.9 without warm-up, others 1 / 1 with 20 epochs; beta and the SD-NKD gamma are the iCD repository's default, 2;
# the cluster weight is 2 for iCD-KD and 8 for iCD-DKD and iCD-NKD.
_KD = KnowledgeDistillation(temperature=4.0)
_DKD = DecoupledKD(temperature=4.0, alpha=1.0, beta=2.0)
_NKD = NormalizedKD(temperature=1.0, gamma=1.5)
_CELL_NKD = NormalizedKD(temperature=4.0, gamma=2.0)

# Settings of rival losses as their authors' repositories give them for CIFAR-100 (docs/reference/methods.md says where
# each is from); where these differ from pair to pair, those of the README. Weights of the cluster term are ours.
_RIVALS: Mapping[str, CellDistillation] = {
    "KD+LS": CellDistillation(
        base_loss=KnowledgeDistillation(temperature=2.0), ce_weight=0.1, base_weight=9.0, logit_standardization=True
    ),
    "DKD+LS": CellDistillation(
        base_loss=DecoupledKD(temperature=2.0, alpha=9.0, beta=72.0), warmup_epochs=20.0, logit_standardization=True
    ),
    "WTTM": CellDistillation(base_loss=TransformedTeacher()),
    "RLD": CellDistillation(base_loss=RefinedLogits(), warmup_epochs=20.0),
    "ABKD": CellDistillation(base_loss=AlphaBetaDivergence(alpha=0.8, beta=0.3), base_weight=32.0),
    "DIST": CellDistillation(base_loss=Correlations(), base_weight=2.0),
}
_CLUSTER_WEIGHTS = {"DKD+LS": 8.0, "RLD": 8.0}  # as iCD-DKD; 2 for the others, as iCD-KD

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
    **{name: replace(method, scales=(1,), cluster_scale_weights=None) for name, method in _RIVALS.items()},
    **{f"SD-{name}": method for name, method in _RIVALS.items()},
    **{
        f"iCD-{name}": replace(method, cluster_weight=_CLUSTER_WEIGHTS.get(name, 2.0))
        for name, method in _RIVALS.items()
    },
}

__all__ = [
    "METHODS",
    "PAPER_ROWS",
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
