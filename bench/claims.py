"""Every figure of docs/explanation/statistics.md, by simulation: error rates, coverage and power of the rules.

    PYTHONPATH=. python bench/claims.py [--studies 4000] [--quick]

Noise has the standard deviation 1 where nothing else is said, so effects are in standard deviations of a run. A study
is a whole confirmation (3 finalists, 3 baselines, 5 seeds, a look for futility after 3) or ablation (7 parts). Each
rate comes with its standard error. The exit status is 1 where a rate misses its goal by more than two of these.
"""

import argparse
import json
import math
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from icd.results.read_outcome import compared
from icd.results.stats import Estimate, Pairs, compare, expected_maximum, futile, simplest_within_one_se

Floats = NDArray[np.floating[Any]]
ALPHA, FIRST = 0.05, 3
WIDEST = 5.0


@dataclass
class Counts:
    """What some studies of one kind gave."""

    studies: int = 0
    false: int = 0  # with any false verdict
    covered: int = 0  # all intervals hold the truth
    covered_each: list[float] = field(default_factory=list)  # share of a study's intervals
    power: list[float] = field(default_factory=list)  # share of the true differences that are shown
    runs: list[int] = field(default_factory=list)
    comparisons: int = 0
    disagree: int = 0  # p, interval and verdict


def study(values_AN: Floats, truth_A: Floats, pairs: Pairs, counts: Counts, *, look: bool) -> None:
    """Run one study by the rules and count what it says."""
    arms, planned = (int(size) for size in values_AN.shape)
    seeds = dict.fromkeys(range(arms), planned)
    if look and planned > FIRST:
        early = {arm: dict(enumerate(values_AN[arm, :FIRST])) for arm in range(arms)}
        hopeless = futile(early, pairs, done=FIRST, planned=planned, alpha=ALPHA)
        open_ = {cell for pair, ends in zip(pairs, hopeless, strict=True) if not ends for cell in pair}
        seeds = {arm: planned if arm in open_ else FIRST for arm in range(arms)}
    found = compare({arm: dict(enumerate(values_AN[arm, : seeds[arm]])) for arm in seeds}, pairs, alpha=ALPHA)
    counts.studies += 1
    counts.runs.append(sum(seeds.values()))
    told = [
        (estimate, float(truth_A[one] - truth_A[other])) for estimate, (one, other) in zip(found, pairs, strict=True)
    ]
    _count(counts, [(estimate, true) for estimate, true in told if estimate is not None])


def _count(counts: Counts, told: Sequence[tuple[Estimate, float]]) -> None:
    shown = [estimate.p <= ALPHA for estimate, _ in told]
    counts.comparisons += len(told)
    counts.disagree += sum((e.low > 0 or e.high < 0) != s for (e, _), s in zip(told, shown, strict=True))
    counts.false += any(s and e.difference * true <= 0 for (e, true), s in zip(told, shown, strict=True))
    held = [estimate.low <= true <= estimate.high for estimate, true in told]
    counts.covered += all(held)
    counts.covered_each.append(sum(held) / len(held))
    real = [s for (_, true), s in zip(told, shown, strict=True) if true]
    if real:
        counts.power.append(sum(real) / len(real))


def normal(draw: np.random.Generator, shape: tuple[int, int]) -> Floats:
    """Give noise of a normal shape."""
    return draw.standard_normal(shape)


def heavy(draw: np.random.Generator, shape: tuple[int, int]) -> Floats:
    """Give noise with heavy tails: t with 5 degrees of freedom."""
    return draw.standard_t(5, shape) / math.sqrt(5 / 3)


def skewed(draw: np.random.Generator, shape: tuple[int, int]) -> Floats:
    """Give noise of skewness 1."""
    return (draw.gamma(4, size=shape) - 4) / 2


def shared(draw: np.random.Generator, shape: tuple[int, int]) -> Floats:
    """Give noise of which half the variance is the seed's."""
    return math.sqrt(0.5) * (draw.standard_normal(shape) + draw.standard_normal((1, shape[1])))


Noise = Callable[[np.random.Generator, tuple[int, int]], Floats]


def simulate(
    studies: int,
    finalists: int,
    baselines: int,
    seeds: int,
    *,
    gain: float = 0.0,
    noise: Noise = normal,
    widest: float = 1.0,
    seed_sd: float = 0.0,
    look: bool = True,
    seed: int = 0,
) -> Counts:
    """Simulate studies: the first finalist is better by ``gain``, the first baseline ``widest`` times as wide.

    A seed adds a normal value of standard deviation ``seed_sd`` to all its runs.
    """
    arms = finalists + baselines
    truth_A, sds_A = np.zeros(arms), np.ones(arms)
    truth_A[0], sds_A[finalists] = gain, widest
    pairs = [(f, finalists + b) for f in range(finalists) for b in range(baselines)]
    draw, counts = np.random.default_rng(seed), Counts()
    for _ in range(studies):
        values_AN = truth_A[:, None] + sds_A[:, None] * noise(draw, (arms, seeds))
        if seed_sd:
            values_AN += seed_sd * draw.standard_normal((1, seeds))
        study(values_AN, truth_A, pairs, counts, look=look)
    return counts


def with_pairs(studies: int, arms: int, *, alike: float, sds: Sequence[float]) -> int:
    """Count confirmations of so many finalists and baselines over teacher-student pairs that name a false difference.

    A run's errors on its pairs are correlated by ``alike`` and have these standard deviations; 5 seeds, no look.
    """
    draw, labels, names = np.random.default_rng(0), [str(arm) for arm in range(2 * arms)], [*map(str, range(len(sds)))]
    asked, false = [(one, other) for one in labels[:arms] for other in labels[arms:]], 0
    for _ in range(studies):
        own_PAN = math.sqrt(1 - alike) * draw.standard_normal((len(sds), 2 * arms, 5))
        own_PAN += math.sqrt(alike) * draw.standard_normal((2 * arms, 5))
        values = {
            (label, name): {seed: sd * float(own_PAN[pair, arm, seed]) for seed in range(5)}
            for pair, (name, sd) in enumerate(zip(names, sds, strict=True))
            for arm, label in enumerate(labels)
        }
        false += any(item.shown for item in compared(values, asked, names, alpha=ALPHA, finished=True))
    return false


def rate(hits: float, studies: int) -> dict[str, float]:
    """Give a rate with its standard error."""
    share = hits / studies
    return {"rate": round(share, 4), "se": round(math.sqrt(max(share * (1 - share), 1 / studies) / studies), 4)}


def simplest(studies: int, seeds: int, worth: float) -> float:
    """Share of ablations of 7 parts, each worth so much, in which the one-standard-error rule drops a part."""
    draw, dropped = np.random.default_rng(0), 0
    for _ in range(studies):
        values_AN = draw.standard_normal((8, seeds))
        values_AN[:7] -= worth
        values = {arm: dict(enumerate(values_AN[arm])) for arm in range(8)}
        dropped += simplest_within_one_se(values, {arm: int(arm == 7) for arm in range(8)})[0] != 7
    return dropped / studies


def main() -> int:
    """Run all studies, print the table and the figures, and hold them against the goals."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--studies", type=int, default=4000)
    parser.add_argument("--quick", action="store_true", help="200 studies of each kind")
    options = parser.parse_args()
    count = 200 if options.quick else options.studies
    told: dict[str, dict[str, Any]] = {}
    missed: list[str] = []
    began = time.process_time()

    def say(name: str, figures: dict[str, Any]) -> None:
        told[name] = figures
        print(f"{time.process_time() - began:6.0f} s  {name}: {json.dumps(figures)}", file=sys.stderr, flush=True)

    def hold(name: str, found: dict[str, float], low: float, high: float) -> None:
        if not low - 2 * found["se"] <= found["rate"] <= high + 2 * found["se"]:
            missed.append(f"{name}: {found['rate']} (se {found['se']}) is outside {low} to {high}")

    kinds: dict[str, dict[str, Any]] = {
        "equal spread": {},
        "baseline five times as wide": {"widest": WIDEST},
        "t with 5 df": {"noise": heavy},
        "skewness 1": {"noise": skewed},
        "correlation 0.5 over seeds": {"noise": shared},
        "baseline five times as wide, seeds add 6 sd": {"widest": WIDEST, "seed_sd": 6.0},
    }
    comparisons = disagree = 0
    # Finalists, baselines, and whether there is a look after three of five seeds.
    verbs = {"benchmark of 6 rows": (5, 1, False), "ablation of 7 parts": (7, 1, True)}
    for verb, (finalists, baselines, look) in verbs.items():
        for name, kind in kinds.items():
            found = simulate(count, finalists, baselines, 5, look=look, **kind)
            comparisons, disagree = comparisons + found.comparisons, disagree + found.disagree
            any_false, covered = rate(found.false, count), rate(found.covered, count)
            say(f"{verb}, {name}", {"any false": any_false, "all intervals hold": covered})
            hold(f"{verb}, {name}, any false verdict", any_false, 0.0, ALPHA)
            hold(f"{verb}, {name}, coverage", covered, 0.94, 1.0)
    for name, kind in kinds.items():
        found = simulate(count, 3, 3, 5, **kind)
        comparisons, disagree = comparisons + found.comparisons, disagree + found.disagree
        any_false, covered = rate(found.false, count), rate(found.covered, count)
        each = round(float(np.mean(found.covered_each)), 4)
        figures = {"any false": any_false, "all intervals hold": covered, "each interval holds": each}
        say(name, {**figures, "runs of 30": round(float(np.mean(found.runs)), 1)})
        hold(f"{name}, any false verdict", any_false, 0.0, ALPHA)
        hold(f"{name}, coverage", covered, 0.94, 1.0 if kind.get("widest") else 0.97)
    for gain, goal in ((1.0, 0.0), (1.5, 0.0), (2.0, 0.5), (3.0, 0.9), (4.0, 0.0)):
        found = simulate(count // 2, 3, 3, 5, gain=gain)
        comparisons, disagree = comparisons + found.comparisons, disagree + found.disagree
        power = rate(float(np.sum(found.power)), found.studies)
        figures = {"shown": power, "runs of 30": round(float(np.mean(found.runs)), 1)}
        say(f"confirmation, better by {gain:g} sd", {**figures, "any false": rate(found.false, found.studies)})
        hold(f"power at {gain:g} sd", power, goal, 1.0)
    for seeds, goal in ((5, 0.9), (3, 0.68)):
        for gain in (1.0, 2.0, 3.0, 4.0):
            found = simulate(count // 2, 7, 1, seeds, gain=gain)
            power = rate(float(np.sum(found.power)), found.studies)
            say(f"ablation, {8 * seeds} runs, a part worth {gain:g} sd", {"shown": power})
            if gain == 3.0:
                hold(f"ablation with {8 * seeds} runs", power, goal, 1.0)
    for seeds in (3, 5, 10):
        for widest in (2.0, 3.0, 5.0):
            found = simulate(count // 2, 3, 3, seeds, widest=widest)
            say(f"{seeds} seeds, a baseline {widest:g} times as wide", {"any false": rate(found.false, found.studies)})
    for widest in (2.0, 3.0, 5.0):
        found = simulate(count // 2, 3, 3, 5, widest=widest, seed_sd=6.0)
        any_false = rate(found.false, found.studies)
        say(f"5 seeds that add 6 sd, a baseline {widest:g} times as wide", {"any false": any_false})
        hold(f"5 seeds that add 6 sd, {widest:g} times as wide", any_false, 0.0, ALPHA)
    spreads = {
        "2 pairs, correlation 0.5": (0.5, (1.0, 1.0)),
        "4 pairs, correlation 0.5": (0.5, (1.0, 1.0, 1.0, 1.0)),
        "2 pairs of sd 1 and 0.1": (0.0, (1.0, 0.1)),
    }
    for name, (alike, sds) in spreads.items():
        for arms in (1, 3):
            any_false = rate(with_pairs(count // 4, arms, alike=alike, sds=sds), count // 4)
            say(f"{name}, {arms} against {arms}", {"any false": any_false})
            hold(f"{name}, {arms} against {arms}", any_false, 0.0, ALPHA)
    for finalists in (1, 3, 5, 10):
        say(
            f"best of {finalists}",
            {"overstated by, in sd of a run, 5 seeds": round(expected_maximum(finalists) / math.sqrt(5), 2)},
        )
    for seeds in (3, 5):
        dropped = {f"{worth:g} sd": round(simplest(count // 4, seeds, worth), 2) for worth in (0.0, 0.5, 1.0, 2.0, 3.0)}
        say(f"one standard error, {seeds} seeds, a part is dropped, each worth", dropped)
    say("agreement", {"comparisons": comparisons, "p, interval and verdict disagree in": disagree})
    if disagree:
        missed.append(f"{disagree} of {comparisons} comparisons disagree")
    print(json.dumps({"studies": count, "figures": told, "missed": missed}, indent=1))
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
