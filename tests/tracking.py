"""What the tests of tracking share: runs as a sweep would show them, an MLflow server, and what a store holds."""

import json
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import time
import urllib.request
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from icd.search.tracking.experiment import Experiment
from icd.search.tracking.run_view import SUMMARY, Row, RunView
from icd.search.tracking.tracker import Tracker

START_MS = 1_790_000_000_000
PARAMS = {"scales": "s1+s2+s4", "base_loss": "dkd", "w_1": "0", "w_2": "0.25", "w_4": "0.75"}


def row(number: int, epoch: int) -> Row:
    """Show an epoch of a trial."""
    metrics = {"val/top1": 50 + number + epoch / 10, "train/loss/ce": 1 / epoch, "lr": 0.05}
    return Row(epoch, START_MS + 60_000 * epoch + number, metrics)


def begun(number: int, epochs: int = 0) -> RunView:
    """Show a trial under way."""
    return RunView(
        key=f"{number:04d}",
        name=f"{number:04d} dkd",
        start_ms=START_MS + number,
        params=PARAMS,
        tags={"method": "iCD-DKD", "state": "running"},
        rows=[row(number, epoch) for epoch in range(1, epochs + 1)],
        sorted_by="final/val/top1",
    )


def ended(number: int, epochs: int = 3, state: str = "complete", artifacts: Sequence[str] = ()) -> RunView:
    """Show a trial that has ended."""
    return replace(
        begun(number, epochs),
        tags={"method": "iCD-DKD", "state": state},
        totals=Row(0, START_MS + 10**7, {"cost/seconds": 9.0}),
        artifacts=artifacts,
        mark=state,
        failed=state == "failed",
        end_ms=START_MS + 10**7,
    )


def ask(tracker: Tracker, views: Iterable[RunView]) -> None:
    """Ask for runs as a driver does."""
    for view in views:
        if view.mark or view.key == SUMMARY:
            tracker.want(view.key, partial(_same, view), view.mark)
        else:
            tracker.begin(view)


def _same(view: RunView) -> RunView:
    return view


def send(
    sweep: Path,
    uri: str,
    views: Iterable[RunView],
    said: list[str] | None = None,
    *,
    experiment: str = "sweep",
    uid: str = "f00d",
    deadline_s: float = 60.0,
    complains: bool = False,
) -> int:
    """Bring MLflow to views; how many runs still wait. Where it ``complains``, that is for the first word of it."""
    tracker = Tracker(said.append if said is not None else lambda line: None)
    ask(tracker, views)
    tracker.start(Experiment(sweep, uri, experiment, uid, tracker.refuse))
    deadline = time.monotonic() + 120
    while complains and not said and time.monotonic() < deadline:
        time.sleep(0.01)
    return tracker.close(0.0 if complains else deadline_s)


class Held:
    """Everything an MLflow database holds, read by SQL."""

    def __init__(self, database: Path, uid: str = "f00d") -> None:
        with sqlite3.connect(database) as connection:

            def select(query: str) -> list[tuple[Any, ...]]:
                return connection.execute(query).fetchall()

            tags = select(f"select run_uuid, value from tags where key = 'icd.trial' and value like '{uid}/%'")
            self.runs = {run: tag.partition("/")[2] for run, tag in tags}
            active = select("select run_uuid, status, end_time from runs where lifecycle_stage = 'active'")
            active = [row for row in active if row[0] in self.runs]
            self.active = [self.runs[run] for run, *_ in active]
            self.status = {self.runs[run]: status for run, status, _ in active}
            self.end_ms = {self.runs[run]: end for run, _, end in active}
            ids = {run for run, *_ in active}
            rows = select("select run_uuid, key, step, value, timestamp from metrics")
            self.metrics = sorted((self.runs[run], *rest) for run, *rest in rows if run in ids)
            self.params = sorted(
                (self.runs[r], k, v) for r, k, v in select("select run_uuid, key, value from params") if r in ids
            )
            self.tags = {
                (self.runs[r], k): v for k, v, r in select("select key, value, run_uuid from tags") if r in self.runs
            }
            self.experiment_tags = dict(select("select key, value from experiment_tags"))
        connection.close()

    def check_once(self, trials: int, epochs: int) -> None:
        """Every trial has one run, and every epoch one row of each metric."""
        trial_runs = [run for run in self.active if run != "summary"]
        assert Counter(trial_runs) == {f"{number:04d}": 1 for number in range(trials)}
        rows = Counter((run, step) for run, key, step, *_ in self.metrics if key == "val/top1")
        assert rows == {(f"{n:04d}", e): 1 for n in range(trials) for e in range(1, epochs + 1)}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Server:
    """A real ``mlflow server`` on the loopback that can be killed and started again."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.port = folder, free_port()
        self.database = folder / "mlflow.db"
        self.uri = f"http://127.0.0.1:{self.port}"

    def start(self, *, wait: bool = True) -> None:
        words = ["server", "--host", "127.0.0.1", "--port", str(self.port), "--workers", "1"]
        words += ["--backend-store-uri", f"sqlite:///{self.database}"]
        words += ["--artifacts-destination", str(self.folder / "artifacts")]
        quiet = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
        with (self.folder / "server.log").open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "mlflow", *words],
                env={**os.environ, **quiet},
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        if wait:
            self.wait()

    def wait(self) -> None:
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline:
            try:
                with urllib.request.urlopen(f"{self.uri}/health", timeout=5):
                    return
            except OSError:
                assert self.process.poll() is None, (self.folder / "server.log").read_text()
                time.sleep(0.2)
        raise TimeoutError((self.folder / "server.log").read_text())

    def kill(self) -> None:
        """Kill the server and its workers, as a lost machine would."""
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


def demo_sweep(trials: int = 20, epochs: int = 12) -> list[RunView]:
    """Show a sweep as a driver would: dense weights, names that never look like numbers, pruned and failed trials."""
    note = "**Which scale weights distil resnet32x4 into resnet8x4 best on CIFAR-100?**"
    views = []
    for number in range(trials):
        base = ("kd", "dkd", "nkd", "ldrld")[number % 4]
        scales = ("s1+s2+s4", "s1+s2", "s1+s4", "s2+s4", "s1")[number % 5]
        weights = {f"w_{m}": f"{((number * 7 + m) % 10 + 1) / 20:.2f}" if f"s{m}" in scales else "0" for m in (1, 2, 4)}
        params = {"scales": scales, "base_loss": base, **weights, "cluster_weight": f"{2 ** (number % 9)}"}
        params |= {"dkd.beta": "8" if base == "dkd" else "0", "nkd.gamma": "1.5" if base == "nkd" else "0"}
        start = START_MS + 600_000 * number
        pruned, failed = number % 6 == 5, number == 13
        last = 4 if pruned or failed else epochs
        rows = []
        for epoch in range(1, last + 1):
            top1 = 74 + (number * 37 % 20) / 10 - 30 / (epoch + 1)
            metrics = {"val/top1": round(top1, 2), "train/loss/ce": 3 / epoch, "train/loss/cluster": 0.5 / epoch}
            rows.append(Row(epoch, start + 60_000 * epoch, metrics))
        state, end_ms = "failed" if failed else "pruned" if pruned else "complete", start + 60_000 * last
        views.append(
            RunView(
                key=f"{number:04d}",
                name=f"{number:04d} {base} {scales}",
                start_ms=start,
                params=params,
                tags={"method": "iCD", "stage": "search" if number != 12 else "ablate", "state": state},
                rows=rows,
                totals=Row(0, end_ms, {"cost/seconds": 60.0 * last, "final/val/top1": rows[-1].metrics["val/top1"]}),
                sorted_by="final/val/top1",
                mark=state,
                failed=failed,
                end_ms=end_ms,
            )
        )
    tags = {"trials": json.dumps({"complete": trials - 4, "pruned": 3, "failed": 1}), "state": "sweep"}
    end_ms = START_MS + 600_000 * trials
    totals = Row(trials, end_ms, {"best/val/top1": 73.6})
    params = {"student": "resnet8x4"}
    summary = RunView(key=SUMMARY, name="sweep", start_ms=START_MS, params=params, tags=tags, note=note)
    return [*views, replace(summary, totals=totals, mark="ended", end_ms=end_ms)]
