"""Losses in pure torch: small frozen values and functions of tensors.

Adding a base loss is one frozen dataclass and one row in ``BASE_LOSSES``; configuration, search spaces, range checks,
contract tests and ``icd methods`` find it there.
"""

from icd.losses.base import BaseLoss, DecoupledKD, KnowledgeDistillation, NormalizedKD
from icd.losses.batch import Correlations, MultiLevel
from icd.losses.divergences import AlphaBetaDivergence, RefinedLogits, TransformedTeacher
from icd.losses.relational import LocalRelations
from icd.registry import Registry

BASE_LOSSES: Registry[type[BaseLoss]] = Registry(
    "base loss",
    {
        "kd": KnowledgeDistillation,
        "dkd": DecoupledKD,
        "nkd": NormalizedKD,
        "ldrld": LocalRelations,
        "wttm": TransformedTeacher,
        "rld": RefinedLogits,
        "abkd": AlphaBetaDivergence,
        "dist": Correlations,
        "mlkd": MultiLevel,
    },
)

__all__ = [
    "BASE_LOSSES",
    "AlphaBetaDivergence",
    "BaseLoss",
    "Correlations",
    "DecoupledKD",
    "KnowledgeDistillation",
    "LocalRelations",
    "MultiLevel",
    "NormalizedKD",
    "RefinedLogits",
    "TransformedTeacher",
]
