"""What a worker does with one attempt: train its trial in the trial's folder and say how it ended.

Knows nothing of pipes or Ray; ``send`` carries epochs out and brings back whether to go on.
"""

import logging
import resource
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from icd.config.read_trial import read_trial
from icd.config.trial import TrialConfig
from icd.config.yaml import Document
from icd.errors import ConfigError, DataError, Interrupted, NonFiniteLossError, Problem, SetupError, StateError
from icd.models import Network
from icd.plugins import fault
from icd.search.core.attempts import DISK, Attempt, AttemptResult, EpochReport, ResultKind, stop_asked
from icd.search.core.preparation import teacher_name
from icd.teacher.cache_plan import suits
from icd.training.engine import spent
from icd.training.hardware import device_name
from icd.training.loop import EpochMetrics, Execution
from icd.worker.attempt_storage import check_newest, working_copy
from icd.worker.gpus import limit_memory, training_device
from icd.worker.grams import keep_grams
from icd.worker.preemption import NOTICE, PreemptionNotice
from icd.worker.trial_folder import claim, continue_trial, take_up
from icd.worker.trial_inputs import SharedInputs, TrialFolders, open_teacher_cache

logger = logging.getLogger(__name__)

Send = Callable[[EpochReport], bool]

_GPU_LIBRARIES = ("CUDA", "cuDNN", "CUDNN", "cuBLAS", "CUBLAS", "cuFFT", "CUFFT")


INPUTS = SharedInputs()  # of this process


def train_attempt(
    attempt: Attempt,
    send: Send,
    *,
    progress: Callable[[int, int, int], None],
    inputs: SharedInputs = INPUTS,
    notice: PreemptionNotice = NOTICE,
) -> AttemptResult:
    """Run one attempt to its end; every fault becomes an ``AttemptResult``.

    Args:
        attempt: What to do.
        send: Told every epoch; False ends the attempt.
        progress: Called after every step with epoch, step and steps in the epoch.
        inputs: Kept between attempts.
        notice: That this process has to go.
    """
    context = attempt.context
    if context.threads:
        torch.set_num_threads(context.threads)
    kind: ResultKind = "complete"
    device, reason, result = None, "", dict[str, Any]()

    def step(epoch: int, step: int, steps: int) -> None:
        progress(epoch, step, steps)
        if notice.over(context.grace_seconds):
            raise Interrupted(f"no time was left for the rest of epoch {epoch}")

    try:
        device = training_device()
        limit_memory(device, context.gpus_per_trial or 1.0)
        if notice.given:
            raise Interrupted("not begun")
        with working_copy(attempt) as publish:
            result = _Runs(attempt, inputs, send, step, device, notice, publish).train()
    except Exception as error:
        kind, reason = _cause(error, attempt, notice, device)
    return AttemptResult(
        number=attempt.number,
        attempt=attempt.attempt,
        kind=kind,
        reason=" ".join(reason.split()),
        result=result,
        device=device_name(device) if device else "",
        spent=spent(),
    )


def _cause(
    error: Exception, attempt: Attempt, notice: PreemptionNotice, device: torch.device | None
) -> tuple[ResultKind, str]:
    """Say what an attempt ended by; without a device, none could be had."""
    match error:
        case Interrupted() if notice.given:
            return "preempted", f"{notice.reason}: {str(error).partition(';')[0]}"
        case Interrupted():
            return "stopped", str(error)
        case NonFiniteLossError():
            return "diverged", str(error)
        case ConfigError() | DataError() | StateError():
            return "setup", str(error)
        case SetupError():
            return ("disk" if device else "gpu"), str(error)
    found = machine_fault(error, attempt.folder)
    if found is None or found[0] == "gpu":
        logger.error("trial %d, attempt %d", attempt.number, attempt.attempt, exc_info=error)
    return found or ("error", (fault(error) or f"{type(error).__name__}: {error}")[:400])


def machine_fault(error: Exception, folder: Path | str) -> tuple[ResultKind, str] | None:
    """Say what the machine lacked: a disk for ``folder``, memory, or a GPU in order; None for other errors."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    said = str(error).splitlines()[0] if str(error) else type(error).__name__
    match error:
        case OSError() if error.errno in DISK:
            return "disk", f"{folder} cannot be written: {error.strerror}"
        case MemoryError() | torch.OutOfMemoryError():
            return "memory", f"out of memory on {device_name(device)}: {said}; {_peak(device)}"
    return ("gpu", f"{device_name(device)}: {said}") if _of_the_gpu(error) else None


def _of_the_gpu(error: Exception) -> bool:
    """Whether CUDA or one of its libraries failed: its process is not used again."""
    of_cuda = isinstance(error, RuntimeError) and any(library in str(error) for library in _GPU_LIBRARIES)
    return of_cuda or isinstance(error, torch.AcceleratorError)


def _peak(device: torch.device) -> str:
    """Say how much memory this process has had at most."""
    host = f"its process had at most {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6:.2f} GB"  # KiB on Linux
    if device.type != "cuda":
        return host
    return f"{host}, and {torch.cuda.max_memory_allocated(device) / 1e9:.2f} GB of the GPU"


@dataclass(frozen=True, slots=True)
class _Runs:
    """The runs of an attempt, one after another."""

    attempt: Attempt
    inputs: SharedInputs
    send: Send
    step: Callable[[int, int, int], None]  # called after every step, with the epoch as the trial counts
    device: torch.device
    notice: PreemptionNotice
    publish: Callable[[], None]  # sends what is new in the folder, where the root is a bucket

    def train(self) -> dict[str, Any]:
        """Train what is left of each; gives the result of the last one."""
        check_newest(self.attempt)
        result, before = dict[str, Any](), 0
        for count, (name, document) in enumerate(self.attempt.runs.items(), 1):
            config = read_trial(Document(dict(document), f"trial {self.attempt.number}"))
            if self.attempt.context.stage != "confirm" and config.data.measure_on == "test":
                rule = "must be val: only a confirmation sees test images"
                raise ConfigError(Problem(path="data.measure_on", rule=rule, value="test"))
            # Where all have their results, only the end was not told: the last one says it again.
            if count == len(self.attempt.runs) or not (self.attempt.folder / name / "result.json").exists():
                result = self._train(name, config, before)
            before += config.training.epochs
        return result

    def _train(self, name: str, config: TrialConfig, before: int) -> dict[str, Any]:
        attempt, context, folder = self.attempt, self.attempt.context, self.attempt.folder / name
        folders = TrialFolders(root=context.root, data_root=context.data_root)
        execution = Execution(
            device=self.device,
            num_workers=context.threads,
            progress=lambda epoch, step, steps: self.step(before + epoch, step, steps),
            stop=self._stop(),
            engine=context.engine,
        )
        split = self.inputs.split(config, folders, execution)
        teacher = self.inputs.teacher(config, split, folders, execution)
        claim(folder, config, resume=True)
        # The driver may have died between our last epoch and its ledger: say the last stored one again.
        begun = take_up(folder)
        for row in begun.rows[-1:]:
            metrics = {key: value for key, value in row.items() if key != "epoch"}
            self._say(name, before + row["epoch"], metrics, device="")

        def report(metrics: EpochMetrics) -> None:
            self._say(name, before + metrics.epoch, metrics.values, device=device_name(self.device))

        def finishing(student: Network) -> None:
            keep_grams(folder, config, split, student, teacher, self.device)
            check_newest(attempt)  # the result comes next

        mode: Any = context.teacher_caches.get(teacher_name(config), "off") if suits(config) else "off"
        with open_teacher_cache(config, split, teacher, folders, mode) as cache:
            execution = replace(execution, report=report, cache=cache)
            may_write = (lambda: None) if context.bucket else partial(check_newest, attempt)  # there it has its own
            result = continue_trial(
                config, split, teacher, folder, execution, begun=begun, may_write=may_write, finishing=finishing
            )
        self.publish()
        return result

    def _say(self, run: str, epoch: int, metrics: Mapping[str, float], *, device: str) -> None:
        """Tell an epoch once it is published; after the last one nothing is left to stop."""
        attempt = self.attempt
        self.publish()
        told = EpochReport(
            number=attempt.number,
            attempt=attempt.attempt,
            run=run,
            device=device,
            epoch=epoch,
            metrics=dict(metrics),
        )
        go = self.send(told)
        if not go and epoch < attempt.epochs:
            raise Interrupted(f"stopped after epoch {epoch}")

    def _stop(self) -> Callable[[], bool]:
        sweep = self.attempt.context.folder
        # A copy of a bucket may hold what an earlier driver was asked on this machine: one that stops begins nothing.
        stale = bool(self.attempt.context.bucket) and stop_asked(sweep) == "now"
        return lambda: self.notice.given or (not stale and stop_asked(sweep) == "now")
