"""The row of ``MODELS`` that describes a network."""

from collections.abc import Callable
from dataclasses import dataclass

from icd.models.output import Network, Stem

Builder = Callable[[int, Stem], Network]
Side = Callable[[Stem, int], int]


@dataclass(frozen=True, slots=True)
class ModelRow:
    """One network of the table."""

    build: Builder  # number of classes, stem -> a Network with new weights, drawn from torch's global generator
    channels: int  # of the features
    side: Side  # stem, side of a square image -> side of the features
    stems: tuple[Stem, ...]
    family: str
    summary: str
    build_pretrained: Builder | None = None
    paper_name: str = ""  # what the authors' tables and checkpoints call it, where that is not the key
    measure: Callable[[Stem, int], tuple[int, int, int]] | None = None  # in place of channels and side
