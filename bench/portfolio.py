"""Which few configurations are good on every recorded pair, and are they good starts on a pair that chose none of them?

    python bench/portfolio.py TABLE TABLE ... [--size 5]

The tables must be of one design. Points that all tables have whole are compared by their rank in each. A portfolio is
grown point by point: each time the one is added with which the best rank of the portfolio is highest in the mean over
the tables; of equal ones that with the higher mean rank. Only points with half to twice the learning rate of the preset
are taken, since another network's preset has another rate: a start takes that one. For each table in turn the others
choose, and a Markdown table says what the first of their points reach there, beside the expected best of so many points
drawn at random from all. Then come the points that all tables choose.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from recorded import RecordedCurves, expected_best
from scipy.stats import rankdata

from icd.cli.format import params_text

DRAWN = (1, 3, 5, 10, 20, 30)
RATE = 0.1  # of the preset digits100, with which the tables were recorded


def shared(tables: Sequence[RecordedCurves]) -> tuple[list[dict[str, Any]], np.ndarray]:
    """Give the configurations that all tables have, and their last values [T, P]."""
    found = [
        {json.dumps(own, sort_keys=True): curve[-1] for own, (_, curve) in zip(t.parameters, t.curves, strict=True)}
        for t in tables
    ]
    names = [name for name in found[0] if all(name in own for own in found)]
    return [json.loads(name) for name in names], np.array([[own[name] for name in names] for own in found])


def portfolio(values_TP: np.ndarray, size: int, allowed: Sequence[int]) -> list[int]:
    """Grow a portfolio of the points at some places; the first is the best alone."""
    ranks_TP = np.array([rankdata(own) for own in values_TP])
    chosen: list[int] = []
    reached_T = np.zeros(len(ranks_TP))
    while len(chosen) < size:
        best_P, mean_P = np.maximum(ranks_TP, reached_T[:, None]).mean(0), ranks_TP.mean(0)
        order = sorted(allowed, key=lambda point: (-best_P[point], -mean_P[point]))
        chosen.append(next(point for point in order if point not in chosen))
        reached_T = np.maximum(reached_T, ranks_TP[:, chosen[-1]])
    return chosen


def main(arguments: Sequence[str] | None = None) -> int:
    """Print a table for each file, and the portfolio of all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", type=Path, nargs="+")
    parser.add_argument("--size", type=int, default=5)
    options = parser.parse_args(arguments)
    parameters, values_TP = shared([RecordedCurves.read(path) for path in options.files])
    allowed = [place for place, own in enumerate(parameters) if RATE / 2 <= own["training.lr"] <= 2 * RATE]
    print(f"{len(parameters)} configurations that all tables have, {len(allowed)} near the preset's rate")
    for place, path in enumerate(options.files):
        own, others = values_TP[place], np.delete(values_TP, place, axis=0)
        chosen = portfolio(others, options.size, allowed)
        print(f"\n{path.name}: the others choose {', '.join(f'{own[point]:.2f}' for point in chosen)}")
        print("| tried | expected best of random ones | the portfolio |\n|---|---|---|")
        for drawn in (count for count in DRAWN if count <= len(parameters)):
            first = f"{max(own[point] for point in chosen[:drawn]):.2f}" if drawn <= options.size else ""
            print(f"| {drawn} | {expected_best(own.tolist(), drawn):.2f} | {first} |")
    print("\nall tables choose")
    for point in portfolio(values_TP, options.size, allowed):
        print(params_text(parameters[point]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
