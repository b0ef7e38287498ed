"""What the driver costs: per ask, per epoch, per trial, and in memory, with nothing trained.

    python bench/driver_cost.py [--quick] [--trials 1000] [--parts ask,drive,processes] [--profile]
    python bench/driver_cost.py --parts large [--trials 10000] [--known 9000]

ask         ``Ledger.ask`` on a sqlite study that knows 10, 100 and 1000 trials of 10 epochs
drive       the whole policy, called in-process: next, ten epochs, end; ledger on disk, with every fsync;
            with MLflow's thread (sqlite) and without; memory as trials pass
processes   the same through ``LocalExecutor`` and two workers that answer and do nothing else
large       the whole policy over one study of thousands of trials of up to three epochs, pruned, with MLflow's thread;
            what an ask costs and what memory is taken, tenth by tenth
"""

import argparse
import cProfile
import functools
import json
import os
import pstats
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import no_op
import synthetic
from optuna.storages import BaseStorage
from optuna.trial import FrozenTrial, TrialState

from icd.search.controller.controller import SweepController
from icd.search.executors.local.executor import LocalExecutor
from icd.search.study.database import open_storage
from icd.search.study.ledger import Ledger
from icd.search.suggest import samplers
from icd.search.suggest.search_space import SearchSpace

EPOCHS, FEW_EPOCHS = 10, 3


_METHODS = {"next": "next_attempt", "epoch": "on_epoch", "end": "on_finished"}


class Times:
    """How long each answer of a driver takes, from now on."""

    def __init__(self, driver: SweepController) -> None:
        self.took: dict[str, list[float]] = {"next": [], "epoch": [], "end": []}
        self.cpu: dict[str, list[float]] = {"next": [], "epoch": [], "end": []}
        self.memory: list[tuple[float, float]] = []
        for kind, name in _METHODS.items():
            setattr(driver, name, functools.partial(self._call, kind, getattr(driver, name)))

    def _call(self, kind: str, method: Callable[..., Any], *arguments: Any) -> Any:
        began, busy = time.perf_counter(), time.thread_time()
        answer = method(*arguments)
        if answer is not None or kind != "next":
            self.took[kind].append(time.perf_counter() - began)
            self.cpu[kind].append(time.thread_time() - busy)
        done = len(self.took["end"])
        if kind == "end" and done % 50 == 0:
            self.memory.append((done, synthetic.rss_mb()))
        return answer


def fill(
    storage: BaseStorage, ledger: Ledger, space: SearchSpace, count: int, base: Mapping[str, Any], epochs: int = EPOCHS
) -> None:
    """Put finished trials into a study, each by one commit."""
    import numpy as np
    import optuna

    aside = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=len(ledger.records())))
    chance = np.random.default_rng(len(ledger.records()))
    for _ in range(count):
        drawn = aside.ask()
        space.suggest(drawn)
        curve = {epoch: float(60 + 3 * epoch + chance.normal()) for epoch in range(1, epochs + 1)}
        template = FrozenTrial(
            number=-1,
            trial_id=-1,
            state=TrialState.COMPLETE,
            value=curve[epochs],
            datetime_start=datetime.now() - timedelta(seconds=1),
            datetime_complete=datetime.now(),
            params=drawn.params,
            distributions=drawn.distributions,
            user_attrs={"key": os.urandom(8).hex(), "attempts": 1, "end": {"exit_reason": "complete"}},
            system_attrs={},
            intermediate_values=curve,
        )
        storage.create_new_trial(storage.get_study_id_from_name(ledger.name), template_trial=template)


def ask_cost(known: list[int], asks: int) -> list[dict[str, Any]]:
    """Time ``Ledger.ask`` with so many trials known, seven others under way."""
    import logging

    import optuna

    optuna.logging.set_verbosity(logging.WARNING)
    rows = []
    with tempfile.TemporaryDirectory(prefix="icd-bench-") as name:
        plain = synthetic.document("ask", trials=100_000, epochs=EPOCHS)
        sweep = synthetic.sweep_of(plain)
        space = SearchSpace(sweep)
        storage = open_storage(f"sqlite:///{name}/study.db")
        ledger = Ledger.create(storage, sweep, {"digest": sweep.digest()})
        have = 0
        for number in known:
            fill(storage, ledger, space, number - have, plain)
            have = number
            samplers.drive(ledger, sweep, space.untried(), EPOCHS)
            known_numbers = {record.number for record in ledger.records()}
            took, busy = [], []
            for turn in range(asks):
                began, cpu = time.perf_counter(), time.thread_time()
                trial = ledger.ask(space.suggest)
                took.append(time.perf_counter() - began)
                busy.append(time.thread_time() - cpu)
                known_numbers.add(trial)
                if turn >= 7:
                    ledger.tell(min(n for n in known_numbers if not ledger.finished(n)), "failed", reason="")
            for trial in known_numbers:
                if not ledger.finished(trial):
                    ledger.tell(trial, "failed", reason="")
            wall, cpu_row = synthetic.spread(took), synthetic.spread(busy)
            rows.append({"known": number, **wall, "cpu_p50_ms": cpu_row["p50_ms"], "cpu_p99_ms": cpu_row["p99_ms"]})
    return rows


def drive(
    trials: int, *, tracker: bool, pruner: str, workers: int = 0, epochs: int = EPOCHS, known: int = 0
) -> dict[str, Any]:
    """Drive a whole sweep of no-op trials, of which so many are in the study when the driver comes."""
    with tempfile.TemporaryDirectory(prefix="icd-bench-") as name:
        folder = Path(name)
        plain = synthetic.document("drive", trials=trials, epochs=epochs, pruner=pruner)
        filled = functools.partial(fill, count=known, base=plain, epochs=epochs)
        began = time.perf_counter()
        driver = synthetic.driver_for(folder, plain, before=filled)
        times, taken_up = Times(driver), time.perf_counter() - began
        follower = None
        if tracker:
            follower = synthetic.track(driver, folder / "mlflow.db")
        before, began, busy = synthetic.rss_mb(), time.perf_counter(), time.thread_time()
        if workers:
            executor = LocalExecutor([""] * workers, driver.context.folder / "logs", launch=launch_fake)
            executor.start()
            ready = time.perf_counter()
            executor.run(driver, lambda: None)
            wall = time.perf_counter() - ready
            executor.close()
        else:
            while (attempt := driver.next_attempt()) is not None:
                driver.on_finished(no_op.no_op(attempt, driver.on_epoch))
            wall = time.perf_counter() - began
        cpu = time.thread_time() - busy
        row: dict[str, Any] = {
            "how": f"{workers} processes" if workers else "in-process",
            "mlflow": tracker,
            "pruner": pruner,
            "trials": trials,
            "known": known,
            "fill_and_take_up_s": taken_up,
            "epochs": len(times.took["epoch"]),
            "wall_s": wall,
            "ms_per_trial": 1000 * wall / (trials - known),
            "cpu_ms_per_trial": 1000 * cpu / (trials - known),
            "rss_before_mb": before,
            "rss_after_mb": synthetic.rss_mb(),
        }
        half = times.memory[len(times.memory) // 4 :]
        row["kb_per_trial"] = 1000 * synthetic.slope(half) if len(half) > 2 else None
        for kind in times.took:
            row[kind] = {**synthetic.spread(times.took[kind]), "cpu": synthetic.spread(times.cpu[kind])}
            row[f"{kind}_p50_ms"], row[f"{kind}_p99_ms"] = row[kind]["p50_ms"], row[kind]["p99_ms"]
        row["tenths"] = tenths(times)
        if follower is not None:
            row["pending_at_end"] = follower.pending()
            began = time.perf_counter()
            row["left_after_60_s"] = follower.close(60)
            row["drain_s"] = time.perf_counter() - began
        return row


def tenths(times: Times) -> list[dict[str, float]]:
    """Say what an ask and an epoch cost, and what memory is taken, in each tenth of the trials."""
    rows: list[dict[str, float]] = []
    trials, epochs = len(times.took["next"]), len(times.took["epoch"])
    for tenth in range(10):
        asks, told = (slice(tenth * size // 10, (tenth + 1) * size // 10) for size in (trials, epochs))
        memory = [megabytes for done, megabytes in times.memory if done <= (tenth + 1) * trials / 10]
        if times.took["next"][asks] and times.took["epoch"][told] and memory:
            ask, cpu = synthetic.spread(times.took["next"][asks]), synthetic.spread(times.cpu["next"][asks])
            epoch = synthetic.spread(times.took["epoch"][told])
            rows.append(
                {
                    "trials": (tenth + 1) * trials // 10,
                    "ask_p50_ms": ask["p50_ms"],
                    "ask_p99_ms": ask["p99_ms"],
                    "ask_cpu_p50_ms": cpu["p50_ms"],
                    "epoch_p50_ms": epoch["p50_ms"],
                    "rss_mb": memory[-1],
                }
            )
    return rows


def launch_fake(pipe: int, environment: Mapping[str, str], log: Path) -> Any:
    """Start a worker that does nothing."""
    worker = Path(__file__).with_name("fake_worker.py")
    with log.open("ab") as file:
        return subprocess.Popen(
            [sys.executable, str(worker), str(pipe)],
            pass_fds=(pipe,),
            stdout=file,
            stderr=file,
            env={**os.environ, **environment},
            start_new_session=True,
        )


def main() -> None:
    """Run, print a table on stderr and the figures on stdout."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="60 trials in place of 1000")
    parser.add_argument("--trials", type=int, help="1000, or 10000 for large")
    parser.add_argument("--known", type=int, default=0, help="for large: so many of them are there already, untrained")
    parser.add_argument("--asks", type=int, default=60)
    parser.add_argument("--parts", default="ask,drive,processes")
    parser.add_argument("--profile", action="store_true", help="only the in-process drive, under cProfile")
    options = parser.parse_args()
    parts = options.parts.split(",")
    trials = 60 if options.quick else options.trials or (10_000 if "large" in parts else 1000)
    result: dict[str, Any] = {"machine": synthetic.machine()}
    if options.profile:
        profile = cProfile.Profile()
        profile.enable()
        drive(trials, tracker=False, pruner="none")
        profile.disable()
        pstats.Stats(profile, stream=sys.stderr).sort_stats("tottime").print_stats(35).sort_stats(
            "cumtime"
        ).print_stats(60)
        return
    if "ask" in parts:
        known = [10, 100] if options.quick else [10, 100, 1000]
        result["ask"] = ask_cost(known, 20 if options.quick else options.asks)
        synthetic.table(result["ask"], ["known", "p50_ms", "p99_ms", "cpu_p50_ms", "cpu_p99_ms"])
    heads = ["how", "mlflow", "pruner", "trials", "epochs", "ms_per_trial", "cpu_ms_per_trial", "next_p50_ms"]
    heads += ["next_p99_ms", "epoch_p50_ms", "epoch_p99_ms", "end_p50_ms", "end_p99_ms", "rss_after_mb"]
    heads += ["kb_per_trial", "pending_at_end", "drain_s"]
    rows = result["drive"] = []
    if "drive" in parts:
        rows.append(drive(trials, tracker=False, pruner="none"))
        rows.append(drive(trials, tracker=True, pruner="none"))
        rows.append(drive(min(trials, 200), tracker=False, pruner="successive_halving"))
    if "processes" in parts:
        rows.append(drive(min(trials, 200), tracker=False, pruner="none", workers=2))
    if "large" in parts:
        # What MLflow would have to be told of trials that are there already is not what is measured.
        more = {"epochs": FEW_EPOCHS, "known": options.known}
        rows.append(drive(trials, tracker=not options.known, pruner="successive_halving", **more))
        synthetic.table(rows[-1]["tenths"], list(rows[-1]["tenths"][0]) if rows[-1]["tenths"] else [])
    synthetic.table(rows, heads)
    json.dump(result, sys.stdout, indent=1)
    print()


if __name__ == "__main__":
    main()
