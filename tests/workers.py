"""Workers that do as they are told instead of training, and a policy that writes down what it hears."""

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from icd.search.controller.retry import RetryPolicy
from icd.search.core.attempts import Attempt, AttemptResult, EpochReport
from icd.search.core.location import Location
from tests.crash.forks import Fork, close_all_but, forked

Start = Callable[[int, int, Mapping[str, str], Path], Fork]
Act = Callable[[dict[str, Any], Callable[..., None], Callable[[], dict[str, Any]], str], None]


def launch(act: Act) -> Start:
    """Start workers that answer each task with ``act(task, say, hear, gpu)``."""

    def serve(hear: Callable[[], dict[str, Any]], say: Callable[..., None], gpu: str) -> None:
        while True:
            act(hear()["task"], say, hear, gpu)

    return _start(serve)


def _start(serve: Callable[[Callable[[], dict[str, Any]], Callable[..., None], str], None]) -> Start:
    def start(commands: int, events: int, environment: Mapping[str, str], log: Path) -> Fork:
        def work() -> int:
            close_all_but({0, 1, 2, commands, events})
            inbox = os.fdopen(commands, "rb")

            def say(said: str, **more: Any) -> None:
                os.write(events, json.dumps({"said": said, **more}).encode() + b"\n")

            def hear() -> dict[str, Any]:
                line = inbox.readline()
                if not line:
                    os._exit(0)
                return dict(json.loads(line))

            serve(hear, say, environment["CUDA_VISIBLE_DEVICES"])
            return 0

        return Fork(forked(work))

    return start


def outcome(task: Mapping[str, Any], kind: str, reason: str = "") -> dict[str, Any]:
    return {"outcome": {"number": task["number"], "attempt": task["attempt"], "kind": kind, "reason": reason}}


def epoch(task: Mapping[str, Any], **metrics: float) -> dict[str, Any]:
    return {"epoch": {"number": task["number"], "attempt": task["attempt"], "epoch": 1, "metrics": metrics}}


class Book:
    """A policy that gives tasks and writes down what it is told; faults are tried again twice.

    Attributes:
        stops: Trials that it stops at their first epoch.
    """

    def __init__(self, trials: int, hang_seconds: float = 60.0, attempts: int = 3, stops: tuple[int, ...] = ()) -> None:
        self.waiting = [
            Attempt(number=number, attempt=1, config={}, sweep="/none", root="/none", hang_seconds=hang_seconds)
            for number in range(trials)
        ]
        self.attempts, self.stops = attempts, stops
        self.running: dict[int, Attempt] = {}
        self.epochs: list[EpochReport] = []
        self.ends: list[AttemptResult] = []
        self.said: list[str] = []
        self.faults = RetryPolicy(attempts, self.said.append)
        self.stopping, self.left = False, 0

    def next_attempt(self) -> Attempt | None:
        if self.stopping or not self.waiting:
            return None
        task = self.waiting.pop(0)
        self.running[task.number] = task
        return task

    def on_epoch(self, epoch: EpochReport) -> bool:
        self.epochs.append(epoch)
        self.faults.on_epoch(epoch)
        return epoch.number not in self.stops

    def on_finished(self, outcome: AttemptResult) -> None:
        self.ends.append(outcome)
        self.faults.on_finished(outcome)
        task = self.running.pop(outcome.number)
        assert task.attempt == outcome.attempt
        done = outcome.kind == "complete" or outcome.number in self.stops
        if not done and task.attempt < self.attempts:
            self.waiting.append(replace(task, attempt=task.attempt + 1))

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
