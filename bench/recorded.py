"""Recorded learning curves: how early the order of two trainings is known, and a benchmark for pruners.

    python bench/recorded.py curves-digits100.json kd_curves_cifar100.json
    python bench/recorded.py recordings/curves-digits100.json --short curves-digits100-e8.json curves-digits100-e3.json
    python bench/recorded.py recordings/curves-digits100-wrn.json --starts recordings/curves-digits100.json

A file is what ``bench/record_curves.py`` writes, or a list of ``{teacher, student, method, test_top1}``; trainings are
compared within their pair of networks. The table has, for shares of the epochs, the pairs of trainings that are in the
order of their last values there (concordance, ties count half), over all pairs and over those that end at least so many
points apart. A short table has the same trainings with fewer epochs and their whole schedule: is its end a better
foretaste of the long one's end than the long training's value at that epoch? ``--starts`` tells what the five best
configurations of another table reach here, beside the expected best of so many drawn at random. As a benchmark::

    study.optimize(RecordedCurves.read(path).objective, n_trials=50)  # an Optuna study with the pruner to judge
"""

import argparse
import itertools
import json
import math
import sys
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from scipy.stats import spearmanr

SHARES = (1 / 24, 1 / 12, 1 / 8, 1 / 6, 1 / 4, 1 / 3, 1 / 2, 2 / 3, 3 / 4, 11 / 12)
APART = (0.0, 0.3, 1.0)


@dataclass(frozen=True)
class RecordedCurves:
    """Curves that were trained once; the best is the largest last value.

    Attributes:
        curves: Values by epoch, from the first on; trainings of one group are compared with each other.
        parameters: What each was trained with; empty where that is not recorded.
    """

    curves: Sequence[tuple[str, Sequence[float]]]
    parameters: Sequence[dict[str, Any]]

    @classmethod
    def read(cls, path: Path) -> "RecordedCurves":
        """Read a file, without trainings that were cut off."""
        rows = json.loads(path.read_text())
        if isinstance(rows, list):
            return cls([(f"{row['teacher']}>{row['student']}", row["test_top1"]) for row in rows], [{} for _ in rows])
        whole = [row for row in rows["curves"] if row["end"] == "complete"]
        return cls([(rows["name"], row["top1"]) for row in whole], [row["parameters"] for row in whole])

    def after(self, share: float) -> list[float]:
        """Give the value of each training after a share of its epochs."""
        return [curve[max(1, round(share * len(curve))) - 1] for _, curve in self.curves]

    def concordance(self, early: Sequence[float], apart: float = 0.0) -> tuple[float, int]:
        """Give the share of pairs in the order of their last values by other values of theirs, and their number.

        Args:
            early: A value for each training; equal ones count half.
            apart: Least difference of the last values, in points; pairs with equal ones say nothing.
        """
        groups: defaultdict[str, list[tuple[float, float]]] = defaultdict(list)
        for (group, curve), value in zip(self.curves, early, strict=True):
            groups[group].append((value, curve[-1]))
        pairs = [pair for found in groups.values() for pair in itertools.combinations(found, 2)]
        told = [(one[0] - other[0], one[1] - other[1]) for one, other in pairs]
        told = [(early, last) for early, last in told if last and abs(last) >= apart]
        right = sum(0.5 if not early else early * last > 0 for early, last in told)
        return (right / len(told) if told else float("nan")), len(told)

    def shared(self, other: "RecordedCurves") -> tuple["RecordedCurves", "RecordedCurves"]:
        """Give the trainings that both tables have, in one order."""
        theirs = {json.dumps(known, sort_keys=True): place for place, known in enumerate(other.parameters)}
        names = [json.dumps(known, sort_keys=True) for known in self.parameters]
        places = [(mine, theirs[name]) for mine, name in enumerate(names) if name in theirs]
        return self.only([mine for mine, _ in places]), other.only([place for _, place in places])

    def only(self, places: Sequence[int]) -> "RecordedCurves":
        """Give the trainings at some places, which may stand twice."""
        return RecordedCurves([self.curves[place] for place in places], [self.parameters[place] for place in places])

    def objective(self, trial: optuna.Trial) -> float:
        """Train one of them, epoch by epoch, for an Optuna study whose pruner may stop it; a row is drawn."""
        _, curve = self.curves[trial.suggest_int("row", 0, len(self.curves) - 1)]
        for epoch, value in enumerate(curve, 1):
            trial.report(value, epoch)
            if trial.should_prune():
                raise optuna.TrialPruned
        return curve[-1]


def main(arguments: Sequence[str] | None = None) -> int:
    """Print a table for each file, and for each short one what it foretells of the first."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", type=Path, nargs="+")
    parser.add_argument("--short", type=Path, nargs="+", default=[])
    parser.add_argument("--starts", type=Path)
    options = parser.parse_args(arguments)
    for path in options.files:
        table = RecordedCurves.read(path)
        print(f"{path.name}: {len(table.curves)} curves, {len({group for group, _ in table.curves})} groups")
        _print(table, {f"{share:.3f} of the epochs": table.after(share) for share in SHARES})
    for path in options.short:
        long, short = RecordedCurves.read(options.files[0]).shared(RecordedCurves.read(path))
        epochs, whole = len(short.curves[0][1]), len(long.curves[0][1])
        print(f"{path.name}: {len(short.curves)} trainings that both tables have")
        prefix, ends = long.after(epochs / whole), short.after(1)
        _print(long, {f"epoch {epochs} of {whole}": prefix, f"end of a schedule of {epochs}": ends})
        low, high = gain(long, prefix, ends)
        print(f"all pairs: the schedule's share less the prefix's is in {low:.2f} to {high:.2f} (95 %)")
    if options.starts is not None:
        here, there = RecordedCurves.read(options.files[0]).shared(RecordedCurves.read(options.starts))
        _print_starts(here.after(1), there.after(1))
    return 0


def expected_best(values: Sequence[float], drawn: int) -> float:
    """Give the expected largest of so many values drawn without replacement."""
    ordered, number = sorted(values), len(values)
    shares = [math.comb(place, drawn - 1) / math.comb(number, drawn) for place in range(number)]
    return sum(share * value for share, value in zip(shares, ordered, strict=True))


def _print_starts(here: Sequence[float], there: Sequence[float], starts: int = 5) -> None:
    """Print what the best of one table reach on another, both in one order."""
    best = sorted(range(len(there)), key=lambda place: -there[place])[:starts]
    print(f"{len(here)} configurations of both, rank correlation {spearmanr(here, there).statistic:.2f}")
    print(f"the {starts} best there reach here {', '.join(f'{here[place]:.2f}' for place in best)}")
    print("| drawn | expected best |\n|---|---|")
    for drawn in (1, 5, 10, 20, 30):
        if drawn <= len(here):
            print(f"| {drawn} | {expected_best(here, drawn):.2f} |")


def gain(table: RecordedCurves, one: Sequence[float], other: Sequence[float]) -> tuple[float, float]:
    """Give the 95 % interval of the second's concordance less the first's: a bootstrap that draws trainings."""
    found = []
    for places in np.random.default_rng(0).integers(len(one), size=(1000, len(one))).tolist():
        drawn = table.only(places)
        first, second = (drawn.concordance([early[place] for place in places])[0] for early in (one, other))
        found.append(second - first)
    low, high = np.quantile(found, (0.025, 0.975))
    return float(low), float(high)


def _print(table: RecordedCurves, told: Mapping[str, Sequence[float]]) -> None:
    print("| foretold by |" + "".join(f" apart >= {apart:g} |" for apart in APART))
    print("|---|" + "---|" * len(APART))
    for name, early in told.items():
        found = (table.concordance(early, apart) for apart in APART)
        print(f"| {name} |" + "".join(f" {value:.2f} ({pairs}) |" for value, pairs in found))


if __name__ == "__main__":
    sys.exit(main())
