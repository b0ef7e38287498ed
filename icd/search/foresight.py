"""How early the order of trials is known: what the rungs, at which a pruner compares them, foretell of the last epoch.

They are judged by curves that are there: the sweep's own, another sweep's, recorded ones.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from icd.config.sweep import SweepConfig
from icd.errors import DataError, StateError
from icd.search.study.sweep_index import find

LEAST = 0.75  # concordance of a first rung, below which a pruner is warned of
FEWEST_PAIRS = 45  # of ten trials; fewer pairs say too little for a warning
_MOST = 2000  # trials that are compared, the newest; all pairs of these take 0.1 s
_SHARES = (1 / 16, 1 / 8, 1 / 4, 1 / 2, 3 / 4)  # of the epochs, where nothing compares

Curve = Mapping[int, float]


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


def first_from(curve: Curve, rung: int) -> float | None:
    """Give the first value that a trial reports at a rung or after it, before its last one; a pruner sees that one."""
    seen = [epoch for epoch in curve if rung <= epoch < max(curve)]
    return curve[min(seen)] if seen else None


def concordance(curves: Sequence[Curve], rung: int) -> RungConcordance:
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Foresight:
    """How early the order of a sweep's trials can be known.

    Attributes:
        source: Whose curves say so; empty where there are none.
        trials: How many trials.
        rungs: At the pruner's rungs, or without a pruner at shares of the epochs.
    """

    source: str = ""
    trials: int = 0
    rungs: tuple[RungConcordance, ...] = ()

    def warning(self, sweep: SweepConfig) -> str:
        """Say that a pruner compares too early; empty where it does not, or where that is not known."""
        first = self.rungs[0] if self.rungs and sweep.pruner.compares else None
        if first is None or first.concordance is None or first.concordance >= LEAST or first.pairs < FEWEST_PAIRS:
            return ""
        better = [rung.epoch for rung in self.rungs if rung.concordance is not None and rung.concordance >= LEAST]
        instead = f"min_epochs: {better[0]}" if better else "name: none"
        return (
            f"search.pruner stops trials from epoch {first.epoch} on, which orders {first.concordance:.0%} of "
            f"{first.pairs} pairs as the last one does ({self.source}), fewer than {LEAST:.0%}; take {instead}"
        )


def foresight(sweep: SweepConfig, root: Path, epochs: int, recorded: Path | None = None) -> Foresight:
    """Judge rungs by the first of these that there is: a recorded table, the sweep's own trials, those it starts from.

    Args:
        sweep: Its name, pruner and sources.
        root: Where sweeps are.
        epochs: Of a trial. An epoch of curves from elsewhere stands for the same share of the training.
        recorded: A table, as ``bench/record_curves.py`` writes it.

    Raises:
        DataError: If the table cannot be read.
    """
    source, curves = _curves_of_file(recorded, epochs) if recorded else _curves_of_sweeps(sweep, root, epochs)
    if not curves:
        return Foresight()
    pruner = sweep.pruner
    wanted = rungs(pruner.min_epochs, pruner.reduction, epochs) if pruner.compares else []
    shares = [max(1, round(share * epochs)) for share in _SHARES]
    wanted = list(dict.fromkeys(epoch for epoch in wanted or shares if epoch < epochs))
    return Foresight(
        source=source,
        trials=len(curves),
        rungs=tuple(concordance(curves, epoch) for epoch in wanted),
    )


def _curves_of_sweeps(sweep: SweepConfig, root: Path, epochs: int) -> tuple[str, list[Curve]]:
    for name in (sweep.name, *(source.sweep for source in sweep.sources)):
        try:
            ledger = find(root, name)
            records = ledger.records()
        except StateError:
            continue
        curves: list[Curve] = [record.curve for record in records if record.state == "complete" and record.curve]
        if len(curves) > 1:
            own = ledger.attributes["digest"] == sweep.digest()  # as its pruner sees them
            return f"{len(curves)} trials of sweep {name}", curves if own else _scaled(curves, epochs)
    return "", []


def _curves_of_file(path: Path, epochs: int) -> tuple[str, list[Curve]]:
    try:
        rows: Sequence[Any] = json.loads(path.read_text())["curves"]
        curves: list[Curve] = [dict(enumerate(map(float, row["top1"]), 1)) for row in rows if row["top1"]]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path} is no table of curves as bench/record_curves.py writes it: {error}") from error
    return f"{len(curves)} curves of {path.name}", _scaled(curves, epochs)


def _scaled(curves: Sequence[Curve], epochs: int) -> list[Curve]:
    return [{-(-epoch * epochs // max(curve)): value for epoch, value in curve.items()} for curve in curves]
