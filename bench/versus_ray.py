"""The same no-op sweep on our Ray executor and on plain Ray Tune with OptunaSearch and MLflowLoggerCallback.

    python bench/versus_ray.py [--quick] [--trials 30] [--epochs 10] [--rounds 2] [--arms ours,plain,plain-reuse]

Each arm runs in a process of its own with a Ray of its own, and the arms take turns (A B C A B C), so that what else
the machine does meets all of them. Both keep the study in sqlite and send MLflow to sqlite; two trials at a time; the
same space, TPE, no pruning. ``plain`` is what Tune does by default (a fresh process for each trial), ``plain-reuse``
keeps processes as ours does. Neither imports torch in its workers.

wall_s       from the first suggestion to the last result, without the start of Ray, MLflow told everything
driver_cpu_s CPU of the driver's process meanwhile
"""

import argparse
import functools
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

import no_op
import synthetic

from icd.search.suggest.search_space import SearchSpace

HERE = Path(__file__).parent
QUIET: dict[str, Any] = {
    "include_dashboard": False,
    "log_to_driver": False,
    "logging_level": "ERROR",
    "address": "local",
}


def attempt(task: Any, send: Any, *, progress: Any) -> Any:
    """Stand in for training."""
    return no_op.no_op(task, send)


def ours(folder: Path, trials: int, epochs: int) -> dict[str, float]:
    """Drive our sweep."""
    from icd.config.sweep import Resources
    from icd.search.executors.ray.executor import RayExecutor

    plain = synthetic.document("ours", trials=trials, epochs=epochs)
    driver = synthetic.driver_for(folder, plain)
    began = time.perf_counter()
    resources = Resources(gpus_per_trial=0, max_concurrent=2)
    executor = RayExecutor(resources, driver.context.folder, announce=lambda line: None, attempt=attempt)
    start = time.perf_counter() - began
    began, busy = time.perf_counter(), synthetic.cpu_s()
    tracker = synthetic.track(driver, folder / "mlflow.db")
    executor.run(driver, lambda: None)
    trained = time.perf_counter() - began
    left = tracker.close(120)
    row = measured(began, busy, start, trained)
    executor.close()
    assert left == 0
    assert sum(record.state == "complete" for record in driver.ledger.records()) == trials
    return row


@functools.cache
def space() -> SearchSpace:
    """Give the space that both sides search."""
    return SearchSpace(synthetic.sweep_of(synthetic.document("plain", trials=1, epochs=10)))


def define(trial: Any) -> None:
    """Ask for a trial; Tune pickles this, so it is a plain function."""
    space().suggest(trial)


def plain_ray(folder: Path, trials: int, epochs: int, *, reuse: bool) -> dict[str, float]:
    """Write it as the documentation of the three does."""
    import optuna
    import ray
    from ray import tune
    from ray.air.integrations.mlflow import MLflowLoggerCallback
    from ray.tune.search.optuna import OptunaSearch

    from icd.search.study.database import open_storage

    def train(config: dict[str, Any]) -> None:
        for epoch in range(1, epochs + 1):
            tune.report(no_op.metrics_of({"method": {}}, epoch))

    began = time.perf_counter()
    ray.init(num_cpus=2, **QUIET)
    start = time.perf_counter() - began
    storage = open_storage(f"sqlite:///{folder}/study.db")  # WAL and synchronous=FULL, as ours
    search = OptunaSearch(
        define, metric="val/top1", mode="max", sampler=optuna.samplers.TPESampler(seed=0), storage=storage,
        study_name="plain",
    )  # fmt: skip
    tuner = tune.Tuner(
        tune.with_resources(train, {"cpu": 1}),
        tune_config=tune.TuneConfig(search_alg=search, num_samples=trials, max_concurrent_trials=2, reuse_actors=reuse),
        run_config=tune.RunConfig(
            name="plain",
            storage_path=str(folder / "tune"),
            verbose=0,
            callbacks=[MLflowLoggerCallback(tracking_uri=f"sqlite:///{folder}/mlflow.db", experiment_name="plain")],
        ),
    )
    began, busy = time.perf_counter(), synthetic.cpu_s()
    results = tuner.fit()
    row = measured(began, busy, start, time.perf_counter() - began)
    assert len(results) == trials
    assert not results.errors
    ray.shutdown()
    return row


def measured(began: float, busy: float, start: float, trained: float) -> dict[str, float]:
    """Read the clocks."""
    return {
        "wall_s": time.perf_counter() - began,
        "trained_s": trained,
        "driver_cpu_s": synthetic.cpu_s() - busy,
        "rss_mb": synthetic.rss_mb(),
        "ray_start_s": start,
    }


def main() -> None:
    """Run, print a table on stderr and the figures on stdout."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="six trials, one round")
    parser.add_argument("--trials", type=int, default=30)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--arms", default="ours,plain,plain-reuse")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    options = parser.parse_args()
    trials, rounds = (6, 1) if options.quick else (options.trials, options.rounds)
    if options.one:
        warnings.simplefilter("ignore")
        with tempfile.TemporaryDirectory(prefix="icd-bench-") as name:
            if options.one == "ours":
                row = ours(Path(name), trials, options.epochs)
            else:
                row = plain_ray(Path(name), trials, options.epochs, reuse=options.one == "plain-reuse")
        print(json.dumps(row))
        return
    arms = options.arms.split(",")
    rows: list[dict[str, Any]] = []
    path = os.pathsep.join([str(HERE), str(HERE.parent), os.environ.get("PYTHONPATH", "")])
    quiet = {"RAY_AIR_NEW_OUTPUT": "0", "RAY_USAGE_STATS_ENABLED": "0", "MLFLOW_DISABLE_TELEMETRY": "true"}
    environment = {**os.environ, **quiet, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
    for turn in range(rounds):
        for arm in arms:
            command = [sys.executable, __file__, "--one", arm, f"--trials={trials}", f"--epochs={options.epochs}"]
            done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, check=True, text=True)
            row = json.loads(done.stdout.strip().splitlines()[-1])
            rows.append({"arm": arm, "round": turn, "load": os.getloadavg()[0], **row})
            synthetic.table(rows[-1:], list(rows[-1]))
    found = {}
    for arm in arms:
        mine = [row for row in rows if row["arm"] == arm]
        found[arm] = {name: statistics.median(row[name] for row in mine) for name in mine[0] if name not in ("arm",)}
        found[arm]["ms_per_trial"] = 1000 * found[arm]["wall_s"] / trials
        found[arm]["cpu_ms_per_trial"] = 1000 * found[arm]["driver_cpu_s"] / trials
        found[arm]["cpu_ms_per_epoch"] = found[arm]["cpu_ms_per_trial"] / options.epochs
    ratios = {
        arm: {name: found["ours"][name] / found[arm][name] for name in ("wall_s", "driver_cpu_s", "rss_mb")}
        for arm in arms
        if "ours" in found
    }
    heads = ["arm", "wall_s", "trained_s", "driver_cpu_s", "ms_per_trial", "cpu_ms_per_trial", "cpu_ms_per_epoch"]
    synthetic.table([{"arm": arm, **row} for arm, row in found.items()], [*heads, "rss_mb", "ray_start_s"])
    result = {"machine": synthetic.machine(), "trials": trials, "epochs": options.epochs}
    json.dump({**result, "rows": rows, "median": found, "ours_over": ratios}, sys.stdout, indent=1)
    print()


if __name__ == "__main__":
    main()
