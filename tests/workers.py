"""Workers that do as they are told instead of training, and a policy that writes down what it hears."""

import os
from collections.abc import Callable, Mapping
from dataclasses import replace
from multiprocessing.connection import Connection
from pathlib import Path

from icd.search.controller.retry import RetryPolicy
from icd.search.core.attempts import Attempt, AttemptResult, EpochReport, Location, RunContext
from icd.worker.main import serve_pipe
from tests.crash.forks import Fork, close_all_but, forked

CONFIG = {"training": {"epochs": 3}}
Start = Callable[[int, Mapping[str, str], Path], Fork]
Send = Callable[[EpochReport], bool]
Progress = Callable[[int, int, int], None]
Act = Callable[[Attempt, Send, Progress, str], AttemptResult]


def launch(act: Act) -> Start:
    """Start workers that do ``act(attempt, send, progress, gpu)`` in place of training."""

    def start(pipe: int, environment: Mapping[str, str], log: Path) -> Fork:
        def work() -> int:
            close_all_but({0, 1, 2, pipe})
            os.environ.update(environment)

            def run(attempt: Attempt, send: Send, *, progress: Progress) -> AttemptResult:
                return act(attempt, send, progress, environment["CUDA_VISIBLE_DEVICES"])

            serve_pipe(Connection(pipe), run)
            return 0

        return Fork(forked(work))

    return start


def epoch_of(attempt: Attempt, **metrics: float) -> EpochReport:
    return EpochReport(number=attempt.number, attempt=attempt.attempt, epoch=1, metrics=metrics)


class Book:
    """A policy that gives attempts and writes down what it is told; faults are tried again twice, with patience."""

    def __init__(self, folder: Path, trials: int, hang_seconds: float = 60.0, attempts: int = 3) -> None:
        self.waiting = [
            Attempt(
                number=number,
                attempt=1,
                runs={"": CONFIG},
                context=RunContext(folder=folder, root=folder, threads=0),
                hang_seconds=hang_seconds,
            )
            for number in range(trials)
        ]
        self.attempts = attempts
        self.running: dict[int, Attempt] = {}
        self.epochs: list[EpochReport] = []
        self.ends: list[AttemptResult] = []
        self.said: list[str] = []
        self.faults = RetryPolicy(attempts, self.said.append)
        self.stopping = False

    def next_attempt(self) -> Attempt | None:
        if self.stopping or not self.waiting:
            return None
        attempt = self.waiting.pop(0)
        self.running[attempt.number] = attempt
        return attempt

    def on_epoch(self, epoch: EpochReport) -> bool:
        self.epochs.append(epoch)
        self.faults.on_epoch(epoch)
        return True

    def on_finished(self, outcome: AttemptResult) -> None:
        self.ends.append(outcome)
        self.faults.on_finished(outcome)
        attempt = self.running.pop(outcome.number)
        assert attempt.attempt == outcome.attempt
        if outcome.kind != "complete" and attempt.attempt < self.attempts:
            self.waiting.append(replace(attempt, attempt=attempt.attempt + 1, hang_seconds=60.0))

    @property
    def done(self) -> bool:
        return not self.running and (self.stopping or not self.waiting)

    @property
    def quarantined(self) -> Mapping[Location, str]:
        return self.faults.quarantined

    @property
    def kinds(self) -> list[str]:
        return [end.kind for end in self.ends]

    def kinds_of(self, number: int) -> list[str]:
        return [end.kind for end in self.ends if end.number == number]
