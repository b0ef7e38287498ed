"""Logits and labels for tests of losses."""

from icd.testing.losses import CLASSES, ROWS
from icd.testing.losses import gradient_of as gradient
from icd.testing.losses import random_logits as logits
from icd.testing.losses import some_labels as labels
from icd.testing.losses import values_of as values

__all__ = ["CLASSES", "ROWS", "gradient", "labels", "logits", "values"]
