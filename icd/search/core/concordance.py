"""How early the order of trials is known: rungs, at which a pruner compares them, and what they foretell."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

_MOST = 2000  # trials that are compared, the newest; all pairs of these take 0.1 s


@dataclass(frozen=True, slots=True, kw_only=True)
class RungConcordance:
    """How well the order of trials at an epoch foretells their order at the last one.

    Attributes:
        epoch: Where trials are compared.
        concordance: Share of the pairs of trials that are in the same order there; equal values there count half. 1
            foretells everything, 0.5 nothing. None without a pair.
        pairs: Pairs of trials whose last values differ.
    """

    epoch: int
    concordance: float | None
    pairs: int


def rungs(min_epochs: int, reduction: int, epochs: int) -> list[int]:
    """List the epochs at which successive halving compares trials: ``min_epochs * reduction ** k``."""
    found, epoch = [], min_epochs
    while epoch < epochs:
        found.append(epoch)
        epoch *= reduction
    return found


def first_from(curve: Mapping[int, float], rung: int) -> float | None:
    """Give the first value that a trial reports at a rung or after it, before its last one; a pruner sees that one."""
    seen = [epoch for epoch in curve if rung <= epoch < max(curve)]
    return curve[min(seen)] if seen else None


def concordance(curves: Sequence[Mapping[int, float]], rung: int) -> RungConcordance:
    """Compare the order of trials at a rung with that of their last values.

    Args:
        curves: Of trials that ran all epochs: value by epoch.
        rung: An epoch.
    """
    early = [(first_from(curve, rung), curve) for curve in curves[-_MOST:] if curve]
    both_N2 = np.array([(value, curve[max(curve)]) for value, curve in early if value is not None]).reshape(-1, 2)
    sign_NN2 = np.sign(both_N2[:, None] - both_N2[None])[np.triu_indices(len(both_N2), 1)]
    early_P, last_P = sign_NN2[sign_NN2[:, 1] != 0].T
    share = float(np.mean((1 + early_P * last_P) / 2)) if len(last_P) else None
    return RungConcordance(epoch=rung, concordance=share, pairs=len(last_P))
