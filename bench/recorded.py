"""Recorded learning curves: how early the order of two trainings is known, and a benchmark for pruners.

    python bench/recorded.py curves-digits100.json kd_curves_cifar100.json

A file is what ``bench/record_curves.py`` writes, or a list of ``{teacher, student, method, test_top1}``; trainings are
compared within their pair of networks. The table has, for shares of the epochs, the pairs of trainings that are in the
order of their last values there (concordance, ties count half), over all pairs and over those that end at least so many
points apart. As a benchmark::

    study.optimize(RecordedCurves.read(path).objective, n_trials=50)  # an Optuna study with the pruner to judge
"""

import argparse
import itertools
import json
import sys
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna

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

    def concordance(self, share: float, apart: float = 0.0) -> tuple[float, int]:
        """Give the share of pairs in the order of their last values after a share of the epochs, and their number.

        Args:
            share: Of the epochs of each.
            apart: Least difference of the last values, in points; pairs with equal ones say nothing.
        """
        groups: defaultdict[str, list[tuple[float, float]]] = defaultdict(list)
        for group, curve in self.curves:
            groups[group].append((curve[max(1, round(share * len(curve))) - 1], curve[-1]))
        pairs = [pair for found in groups.values() for pair in itertools.combinations(found, 2)]
        told = [(one[0] - other[0], one[1] - other[1]) for one, other in pairs]
        told = [(early, last) for early, last in told if last and abs(last) >= apart]
        right = sum(0.5 if not early else early * last > 0 for early, last in told)
        return (right / len(told) if told else float("nan")), len(told)

    def objective(self, trial: optuna.Trial) -> float:
        """Train one of them, epoch by epoch, for an Optuna study whose pruner may stop it; a row is drawn."""
        _, curve = self.curves[trial.suggest_int("row", 0, len(self.curves) - 1)]
        for epoch, value in enumerate(curve, 1):
            trial.report(value, epoch)
            if trial.should_prune():
                raise optuna.TrialPruned
        return curve[-1]


def main(arguments: Sequence[str] | None = None) -> int:
    """Print a table for each file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", type=Path, nargs="+")
    for path in parser.parse_args(arguments).files:
        table = RecordedCurves.read(path)
        print(f"{path.name}: {len(table.curves)} curves, {len({group for group, _ in table.curves})} groups")
        print("| share of the epochs |" + "".join(f" apart >= {apart:g} |" for apart in APART))
        print("|---|" + "---|" * len(APART))
        for share in SHARES:
            found = (table.concordance(share, apart) for apart in APART)
            print(f"| {share:.3f} |" + "".join(f" {value:.2f} ({pairs}) |" for value, pairs in found))
    return 0


if __name__ == "__main__":
    sys.exit(main())
