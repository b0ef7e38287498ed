"""What runs inside Ray's workers: one attempt after another, with a watchdog, and the preparation of a sweep."""

import contextlib
import faulthandler
import json
import logging
import os
import socket
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import ray
from ray import tune

from icd.errors import SetupError
from icd.search.core.attempts import UNCLEAN, Attempt, AttemptClaim, AttemptResult, EpochReport, issued
from icd.worker.gpus import VISIBLE
from icd.worker.main import serve_preparation
from icd.worker.preemption import NOTICE, heed_sigterm
from icd.worker.progress_files import every, forget_files, progress_path, publish_progress, publish_stack, stack_path

logger = logging.getLogger(__name__)

# As ``icd.worker.run_trial.attempt``.
AttemptFunction = Callable[..., AttemptResult]

FENCE_EVERY_S = 2.0  # how often a worker asks whether its attempt is still the newest
_HOLD_EVERY_S = 2.0  # how often a worker asks whether it must still keep its place from others
_STEP_EVERY_S = 1.0  # how often a worker says which step it is at, and its watchdog is wound up
_PUBLISH_S = 10.0  # a stack has so long to get into the bucket; less than the driver waits for the process to end

KEPT: dict[str, Any] = {}  # of this process: its shared inputs, and whether its log is set up


class HeedsSigterm:
    """A part of Tune's trainable: Ray's own handler would end the process at once."""

    def setup(self, config: Mapping[str, Any]) -> None:
        """Called by the main thread, which alone may set handlers."""
        heed_sigterm()
        super().setup(config)  # type: ignore[misc]


def run_attempt(task: Attempt, avoid: Sequence[Sequence[str]], attempt: AttemptFunction | None) -> None:
    """Run an attempt in a process of Tune's; ``tell`` does not return where the driver stops it.

    Args:
        task: What to do.
        avoid: Places that are quarantined, each a node and its GPUs. Ray cannot leave out a GPU, so a worker that finds
            itself there gives its task back and keeps the place from others.
        attempt: For tests, in place of ``icd.worker.run_trial.attempt``.
    """
    task = task.here()
    begin(avoid)
    with _Watchdog(task) as watchdog:
        run, shared_inputs = (attempt, None) if attempt is not None else _training()
        keep_log(Path(task.sweep) / "logs")
        epochs = task.config.get("training", {}).get("epochs")

        def send(epoch: EpochReport) -> bool:
            watchdog.rest()  # the driver may be busy
            tell("epoch", epoch=asdict(epoch), last=epoch.epoch == epochs)
            watchdog.wind()
            return True

        outcome = run(task, shared_inputs, send, progress=watchdog.step)
    if outcome.kind in UNCLEAN or outcome.spent:
        KEPT.clear()
    tell("outcome", outcome=asdict(outcome))
    raise RuntimeError(f"this process is not used again: {outcome.spent or outcome.reason}")


def _training() -> tuple[AttemptFunction, Any]:
    """Give what trains, and the inputs that this process keeps for it; they take seconds to import."""
    from icd.worker import run_trial, shared_inputs

    return run_trial.attempt, KEPT.setdefault("inputs", shared_inputs.SharedInputs())


def begin(avoid: Sequence[Sequence[str]]) -> None:
    """Tell the driver where this process is; it does not return where that place is quarantined."""
    node, gpu = ray.get_runtime_context().get_node_id(), see_given_gpus()
    here = {"node": node, "gpu": gpu, "host": socket.gethostname(), "pid": os.getpid()}
    if any(list(place) in ([node, gpu], [node, ""]) for place in avoid):
        tell("refused", **here)
        while True:
            time.sleep(_HOLD_EVERY_S)
            tell("holding")
    tell("began", **here)


def see_given_gpus() -> str:
    """Let this process see the GPUs that Ray gave it, and no others where that is none; gives their names.

    Ray leaves ``CUDA_VISIBLE_DEVICES`` alone where it gives none, and torch would take a GPU that others have.
    """
    gpu = ",".join(str(index) for index in ray.get_gpu_ids())
    if not gpu:
        os.environ[VISIBLE] = ""
    return gpu


def tell(said: str, **more: Any) -> None:
    """Tell the driver; it does not return where the driver stops this trial of Tune's."""
    tune.report({"message": json.dumps({"said": said, **more})})


def keep_log(folder: Path) -> None:
    """Send warnings to a file of the sweep: Ray's own logs go with its session."""
    if "log" not in KEPT:
        KEPT["log"] = True
        folder.mkdir(parents=True, exist_ok=True)
        handler = logging.FileHandler(folder / f"ray-{socket.gethostname()}-{os.getpid()}.log", delay=True)
        handler.setLevel(logging.WARNING)
        handler.setFormatter(logging.Formatter("%(asctime)s %(name)s: %(message)s"))
        logging.getLogger("icd").addHandler(handler)


class _Watchdog:
    """Ends this process, after writing where every thread is, when no step was made for too long.

    It also ends it when a newer attempt has the trial: Ray soon kills the workers of a dead driver, but a node that was
    only cut off would train on until its next epoch.
    """

    def __init__(self, task: Attempt) -> None:
        self._seconds, self._attempt = task.hang_seconds, task.attempt
        self._stack, self._progress = stack_path(task), progress_path(task)
        self._task, self._over = task, threading.Event()
        self._told, self._wound = 0.0, float("inf")
        self._where: dict[str, int] = {}
        self._published, self._heard = self._where, time.monotonic()
        task.folder.mkdir(parents=True, exist_ok=True)
        forget_files(task)
        self._file = self._stack.open("w")

    def __enter__(self) -> "_Watchdog":
        self.wind()
        threading.Thread(target=self._watch, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self.rest()
        self._file.close()
        self._stack.unlink(missing_ok=True)
        self._progress.unlink(missing_ok=True)

    def _watch(self) -> None:
        while not self._over.wait(FENCE_EVERY_S):
            self._give_up_if_stuck()
            said = AttemptClaim(self._attempt)
            with contextlib.suppress(SetupError):  # a bucket that is away says nothing of newer attempts
                said = issued(self._task)
            if said.attempt != self._attempt:
                logger.warning("trial %d: attempt %d was given up", self._task.number, self._attempt)
                os._exit(1)
            if said.reason:
                NOTICE.give(said.reason, said.until - time.time() if said.until else float("inf"))
            self._publish()

    def _publish(self) -> None:
        """Say through a bucket where we are, if the driver has heard nothing for a while."""
        where = self._where
        if self._task.bucket and where != self._published and time.monotonic() - self._heard >= every(self._task):
            publish_progress(self._task, where)
            self._published, self._heard = where, time.monotonic()

    def _give_up_if_stuck(self) -> None:
        """Publish the stack first: with a bucket nobody else may see this machine's files."""
        if self._task.bucket and time.monotonic() - self._wound > self._seconds:
            faulthandler.dump_traceback(file=self._file)
            publish_stack(self._task)
            os._exit(1)

    def wind(self) -> None:
        """Begin to count again."""
        self._wound = time.monotonic()
        seconds = self._seconds + (_PUBLISH_S if self._task.bucket else 0)
        faulthandler.dump_traceback_later(seconds, exit=True, file=self._file)

    def rest(self) -> None:
        """Stop counting until it is wound up again; steps alone do not, since training waits for the driver too."""
        self._wound, self._heard = float("inf"), time.monotonic()
        faulthandler.cancel_dump_traceback_later()

    def step(self, epoch: int, step: int, steps: int) -> None:
        """Called after every step of training."""
        if time.monotonic() - self._told <= _STEP_EVERY_S:
            return
        self._told = time.monotonic()
        if self._wound < float("inf"):
            self.wind()
        self._where = {"attempt": self._attempt, "epoch": epoch, "step": step, "steps": steps}
        with contextlib.suppress(OSError):
            self._progress.write_text(json.dumps(self._where))


class Preparer:
    """An actor that makes ready; ``lines`` is called while ``prepare`` runs."""

    def __init__(self) -> None:
        self.stop = False
        self._lines: list[str] = []
        self._answer: dict[str, Any] = {}

    def prepare(self, request: dict[str, Any]) -> dict[str, Any]:
        see_given_gpus()
        serve_preparation(request, self)
        return self._answer

    def lines(self, stop: bool) -> list[str]:
        self.stop = self.stop or stop
        said, self._lines = self._lines, []
        return said

    def say(self, said: str, **more: Any) -> None:
        if said == "line":
            self._lines.append(more["text"])
        else:
            self._answer = {"said": said, **more}

    def alive(self, epoch: int, step: int, steps: int) -> None:
        """Nothing: Ray knows whether this process lives."""
