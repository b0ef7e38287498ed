"""The attempts that one worker process runs side by side, each on a thread of its own, on one bench."""

import contextlib
import logging
import os
import queue
import threading
import time
from collections.abc import Callable
from dataclasses import asdict
from typing import Any, Protocol

import torch

from icd.search.bench import Bench
from icd.search.task import Epoch, Outcome, Task

logger = logging.getLogger(__name__)

_ALIVE_EVERY_S = 1.0

Attempt = Callable[..., Outcome]  # as ``icd.search.work.attempt``


class Say(Protocol):
    """Tells the driver; may be called by any thread."""

    def __call__(self, said: str, **more: Any) -> None: ...


class Talk:
    """What one attempt says to the driver, and what it is answered."""

    def __init__(self, number: int, say: Say) -> None:
        self.number, self._say = number, say
        self.answers: queue.SimpleQueue[bool] = queue.SimpleQueue()
        self._said = 0.0

    def epoch(self, epoch: Epoch) -> bool:
        """Tell an epoch and wait for the answer, whether to go on."""
        self._said = time.monotonic()
        self._say("epoch", epoch=asdict(epoch))
        return self.answers.get()

    def alive(self, epoch: int, step: int, steps: int) -> None:
        """Tell now and then that steps are being made."""
        if time.monotonic() - self._said > _ALIVE_EVERY_S:
            self._said = time.monotonic()
            self._say("alive", number=self.number, epoch=epoch, step=step, steps=steps)


class Pack:
    """Gives tasks to seats and answers to their attempts; called by one thread.

    Args:
        attempt: Runs a task on the bench.
        say: Tells the driver.
    """

    def __init__(self, attempt: Attempt, say: Say) -> None:
        self._attempt, self._say, self._bench = attempt, say, Bench()
        self._talks: dict[int, Talk] = {}
        self._free: queue.SimpleQueue[_Seat] = queue.SimpleQueue()

    def begin(self, task: Task) -> None:
        """Start an attempt beside those under way; the driver knows how many there may be."""
        self._talks[task.number] = talk = Talk(task.number, self._say)
        try:
            seat = self._free.get_nowait()
        except queue.Empty:
            seat = _Seat()
        seat.work.put(lambda: self._run(task, talk, seat))

    def answer(self, number: int, go: bool) -> None:
        """Pass on whether a trial goes on after its epoch."""
        self._talks[number].answers.put(go)

    def _run(self, task: Task, talk: Talk, seat: "_Seat") -> None:
        threading.current_thread().name = f"trial {task.number}"  # in every line of the log
        outcome = self._attempt(task, self._bench, talk.epoch, progress=talk.alive)
        del self._talks[task.number]
        self._free.put(seat)  # before the driver hears of it and sends the next task
        self._say("outcome", outcome=asdict(outcome))


class _Seat:
    """A thread that runs one attempt after another; on a GPU it has its own stream.

    Seats stay, because cuBLAS keeps a workspace for every pair of thread and stream that it has ever seen.
    """

    def __init__(self) -> None:
        self.work: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        try:
            with stream_of_its_own():
                while True:
                    self.work.get()()
        except BaseException:  # attempts end with an outcome; this is a bug, and the driver must see it at once
            logger.exception("the thread of an attempt ended")
            os._exit(70)


def stream_of_its_own() -> contextlib.AbstractContextManager[Any]:
    """Let this thread's kernels run beside those of others; nothing to do on a CPU."""
    if not torch.cuda.is_available():
        return contextlib.nullcontext()
    return torch.cuda.stream(torch.cuda.Stream())  # type: ignore[no-untyped-call]
