"""What the tests of tracking share: sweeps said to an outbox, an MLflow server, and what a store holds."""

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
from pathlib import Path
from typing import Any

from icd.search.tracking.outbox import Outbox

START_MS = 1_790_000_000_000
PARAMS = {"scales": "s1+s2+s4", "base_loss": "dkd", "w_1": "0", "w_2": "0.25", "w_4": "0.75"}


def say_trial(outbox: Outbox, number: int, epochs: int = 3, state: Any = "complete") -> None:
    begin_trial(outbox, number)
    for epoch in range(1, epochs + 1):
        say_epoch(outbox, number, epoch)
    end_trial(outbox, number, state)


def begin_trial(outbox: Outbox, number: int) -> None:
    outbox.trial(number, time_ms=START_MS + number, name=f"{number:04d} dkd", params=PARAMS, tags={"method": "iCD-DKD"})


def say_epoch(outbox: Outbox, number: int, epoch: int) -> None:
    metrics = {"val/top1": 50 + number + epoch / 10, "train/loss/ce": 1 / epoch, "lr": 0.05}
    outbox.epoch(number, epoch, time_ms=START_MS + 60_000 * epoch + number, metrics=metrics)


def end_trial(outbox: Outbox, number: int, state: Any = "complete", artifacts: tuple[str, ...] = ()) -> None:
    outbox.end(
        number, time_ms=START_MS + 10**7, state=state, metrics={"cost/seconds": 9.0}, tags={}, artifacts=artifacts
    )


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


def demo_sweep(folder: Path, trials: int = 20, epochs: int = 12) -> None:
    """Say a sweep as a driver would: dense weights, names that never look like numbers, pruned and failed trials."""
    outbox = Outbox(folder)
    note = "**Which scale weights distil resnet32x4 into resnet8x4 best on CIFAR-100?**"
    outbox.sweep(time_ms=START_MS, name="sweep", params={"student": "resnet8x4"}, tags={}, note=note)
    for number in range(trials):
        base = ("kd", "dkd", "nkd", "ldrld")[number % 4]
        scales = ("s1+s2+s4", "s1+s2", "s1+s4", "s2+s4", "s1")[number % 5]
        weights = {f"w_{m}": f"{((number * 7 + m) % 10 + 1) / 20:.2f}" if f"s{m}" in scales else "0" for m in (1, 2, 4)}
        params = {"scales": scales, "base_loss": base, **weights, "cluster_weight": f"{2 ** (number % 9)}"}
        params |= {"dkd.beta": "8" if base == "dkd" else "0", "nkd.gamma": "1.5" if base == "nkd" else "0"}
        begun = START_MS + 600_000 * number
        outbox.trial(number, time_ms=begun, name=f"{number:04d} {base} {scales}", params=params, tags={"method": "iCD"})
        pruned, failed = number % 6 == 5, number == 13
        last = 4 if pruned or failed else epochs
        for epoch in range(1, last + 1):
            top1 = 74 + (number * 37 % 20) / 10 - 30 / (epoch + 1)
            metrics = {"val/top1": round(top1, 2), "train/loss/ce": 3 / epoch, "train/loss/cluster": 0.5 / epoch}
            outbox.epoch(number, epoch, time_ms=begun + 60_000 * epoch, metrics=metrics)
        state: Any = "failed" if failed else "pruned" if pruned else "complete"
        end_ms = begun + 60_000 * last
        outbox.end(number, time_ms=end_ms, state=state, metrics={"cost/seconds": 60.0 * last}, tags={"device": "cpu"})
    tags = {"trials": json.dumps({"complete": trials - 4, "pruned": 3, "failed": 1})}
    outbox.summary(1, time_ms=begun + 10**6, metrics={"best/val/top1": 73.6}, tags=tags, finished=True)
    outbox.close()
