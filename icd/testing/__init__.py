"""What the rest of the program assumes of a loss, a method, a network, a data set and an augmentation, as checks.

Each check is a function of one thing; it returns nothing, or raises ``ContractError`` with a sentence on what is wrong.
``failures`` runs a list of them. The package's own tests run them on every row of its tables, and ``icd check-plugin``
on what a plugin registers::

    from icd import testing

    assert testing.failures(testing.LOSS_CHECKS, MyLoss()) == []
"""

from icd.testing.contract import Check, ContractError, failures, require
from icd.testing.data import DATASET_CHECKS, VIEWS_CHECKS
from icd.testing.losses import LOSS_CHECKS
from icd.testing.methods import METHOD_CHECKS
from icd.testing.models import MODEL_CHECKS, ModelCase
from icd.testing.plugin import check_plugin

__all__ = [
    "DATASET_CHECKS",
    "LOSS_CHECKS",
    "METHOD_CHECKS",
    "MODEL_CHECKS",
    "VIEWS_CHECKS",
    "Check",
    "ContractError",
    "ModelCase",
    "check_plugin",
    "failures",
    "require",
]
