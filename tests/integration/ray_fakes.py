"""Stand-ins for the driver and the work of a trial; workers import this module."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import ray

from icd.cli.signals import stop_requested, stopping_politely
from icd.config.sweep import Resources
from icd.search.controller.retry import RetryPolicy
from icd.search.core.attempts import Attempt, AttemptResult, EpochReport, Location, RunContext, trial_folder
from icd.worker.preemption import NOTICE

ROOT = Path(__file__).parents[2]
EPOCHS = 3
RETRIED = ("preempted", "killed", "lost", "memory", "gpu", "hang")


class FakePolicy:
    """Runs every document of ``trials`` to its end, each at most ``attempts`` times; after a fault with patience."""

    def __init__(self, folder: Path, trials: list[dict[str, Any]], attempts: int = 3, hang_seconds: float = 60) -> None:
        self.folder, self.trials, self.attempts, self.hang_seconds = folder, trials, attempts, hang_seconds
        self.waiting = list(range(len(trials)))
        self.tried = [0] * len(trials)
        self.running: set[int] = set()
        self.most = 0
        self.ends: list[AttemptResult] = []
        self.epochs: list[EpochReport] = []
        self.said: list[str] = []
        self.faults = RetryPolicy(attempts, self.said.append)
        self.stopping = False
        self.stop_after: Mapping[int, int] = {}
        self.threads: set[int] = set()

    def next_attempt(self) -> Attempt | None:
        self.threads.add(threading.get_ident())
        if self.stopping or not self.waiting:
            return None
        number = self.waiting.pop(0)
        self.running.add(number)
        self.most = max(self.most, len(self.running))
        self.tried[number] += 1
        folder = trial_folder(self.folder, number)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "attempt").write_text(str(self.tried[number]))
        return Attempt(
            number=number,
            attempt=self.tried[number],
            runs={"": {"training": {"epochs": EPOCHS}, **self.trials[number]}},
            context=RunContext(folder=self.folder, root=self.folder, threads=0),
            hang_seconds=self.hang_seconds if self.tried[number] == 1 else 300,
        )

    def on_epoch(self, epoch: EpochReport) -> bool:
        self.threads.add(threading.get_ident())
        assert epoch.number in self.running
        self.epochs.append(epoch)
        self.faults.on_epoch(epoch)
        return not self.stopping and epoch.epoch < self.stop_after.get(epoch.number, 1000)

    def on_finished(self, outcome: AttemptResult) -> None:
        self.threads.add(threading.get_ident())
        assert outcome.number in self.running
        assert outcome.attempt == self.tried[outcome.number]
        self.running.remove(outcome.number)
        self.ends.append(outcome)
        self.faults.on_finished(outcome)
        if outcome.kind == "stopped" and outcome.reason.startswith("not begun"):
            self.waiting.insert(0, outcome.number)
        if outcome.kind in RETRIED and self.tried[outcome.number] < self.attempts:
            self.waiting.append(outcome.number)

    @property
    def quarantined(self) -> Mapping[Location, str]:
        return self.faults.quarantined

    @property
    def done(self) -> bool:
        return not self.running and (self.stopping or not self.waiting)

    def kinds(self, number: int = 0) -> list[str]:
        return [outcome.kind for outcome in self.ends if outcome.number == number]


def runner(executor: Any, folder: Path) -> Callable[..., FakePolicy]:
    """Give what runs trials in an executor to their ends; ``tick`` is called with the policy meanwhile."""
    executor.folder = folder

    def run(
        trials: list[dict[str, Any]], tick: Callable[[FakePolicy], None] = lambda policy: None, **more: Any
    ) -> FakePolicy:
        stop_after = more.pop("stop_after", {})
        policy = FakePolicy(folder, trials, **more)
        policy.stop_after = stop_after
        executor.run(policy, lambda: tick(policy))
        assert policy.threads == {threading.get_ident()}
        assert not policy.running
        return policy

    return run


def fake_attempt(
    attempt: Attempt, send: Callable[[EpochReport], bool], *, progress: Callable[[int, int, int], None]
) -> AttemptResult:
    """Do what the configuration says under ``do``, in the first attempt only."""
    do = str(attempt.runs[""].get("do", "")) if attempt.attempt == 1 else ""
    epochs = int(attempt.runs[""]["training"]["epochs"])
    for epoch in range(1, epochs + 1):
        if "sick" in attempt.runs[""]:
            time.sleep(0.3)
            gpus = [int(index) for index in ray.get_gpu_ids()]
            (attempt.folder / f"gpu-{attempt.attempt}").write_text(json.dumps(gpus))
            if gpus == [attempt.runs[""]["sick"]]:
                return ended(attempt, "gpu")
            while not (attempt.context.folder / "go").exists():
                time.sleep(0.1)
                progress(epoch, 1, 2)
        if epoch == 2:
            _misbehave(do)
            if do in ("gpu", "memory", "diverged", "error"):
                return ended(attempt, do)
        deadline = time.monotonic() + float(attempt.runs[""].get("seconds", 0))
        while time.monotonic() < deadline:
            time.sleep(0.02)
            progress(epoch, 1, 2)
        attempt.folder.mkdir(parents=True, exist_ok=True)  # with a bucket, each node makes its own
        (attempt.folder / "pid").write_text(str(os.getpid()))
        (attempt.folder / "alive").write_text(str(time.time()))
        told = EpochReport(
            number=attempt.number,
            attempt=attempt.attempt,
            epoch=epoch,
            metrics={"time": 1.0, "val/top1": epoch, "pid": os.getpid()},
        )
        if not send(told) and epoch < epochs:
            return ended(attempt, "stopped")
        if NOTICE.given:
            return ended(attempt, "preempted", NOTICE.reason)
    return ended(attempt, "complete")


def ended(attempt: Attempt, kind: Any, reason: str = "") -> AttemptResult:
    result = {"pid": os.getpid(), "nothing": None, "nan": float("nan")}
    return AttemptResult(
        number=attempt.number, attempt=attempt.attempt, kind=kind, reason=reason or f"fake {kind}", result=result
    )


def _misbehave(do: str) -> None:
    if do == "raise":
        raise ZeroDivisionError("as asked")
    if do == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if do == "exit":
        os._exit(3)
    if do == "hang":
        time.sleep(1000)
    if do == "freeze":
        os.kill(os.getpid(), signal.SIGSTOP)


def start_driver(folder: Path, trials: int, epochs: int, seconds: float, address: str = "local") -> Any:
    words = [str(folder), address, str(trials), str(epochs), str(seconds)]
    return subprocess.Popen(
        [sys.executable, "-m", "tests.integration.ray_fakes", *words],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def pids_of(folder: Path) -> set[int]:
    return {int(path.read_text() or 0) for path in folder.glob("trials/*/pid")}


def main() -> None:
    """Drive a sweep of fakes as the command does: FOLDER ADDRESS TRIALS EPOCHS SECONDS."""
    started = time.monotonic()
    from icd.search.core.attempts import stop_asked
    from icd.search.executors.ray.executor import RayExecutor

    folder, address = Path(sys.argv[1]), sys.argv[2]
    trials, epochs, seconds = int(sys.argv[3]), int(sys.argv[4]), float(sys.argv[5])
    policy = FakePolicy(folder, [{"training": {"epochs": epochs}, "seconds": seconds} for _ in range(trials)])
    times = {"import": time.monotonic() - started}

    def tick() -> None:
        policy.stopping = policy.stopping or stop_requested() or stop_asked(folder) == "now"

    with stopping_politely():
        said: list[str] = []
        executor = RayExecutor(Resources(), folder, address=address, announce=said.append, attempt=fake_attempt)
        times["join"] = time.monotonic() - started
        (folder / "began").touch()
        try:
            executor.run(policy, tick)
        finally:
            times["run"] = time.monotonic() - started
            executor.close()
            times["close"] = time.monotonic() - started
    result = {
        "kinds": [outcome.kind for outcome in policy.ends],
        "pids": [outcome.result.get("pid") for outcome in policy.ends],
        "said": said,
        "times": times,
    }
    (folder / "result.json").write_text(json.dumps(result))


if __name__ == "__main__":
    main()
