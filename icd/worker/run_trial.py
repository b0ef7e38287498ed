"""What a worker does with one attempt: train its trial in the trial's folder and say how it ended.

Knows nothing of pipes or Ray; ``send`` carries epochs out and brings back whether to go on.
"""

import errno
import logging
import resource
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from icd.config.read_trial import read_trial
from icd.config.trial import TrialConfig
from icd.config.yaml import Document
from icd.data.split import Split
from icd.errors import (
    ConfigError,
    DataError,
    Interrupted,
    NonFiniteLossError,
    Problem,
    SetupError,
    StateError,
)
from icd.methods import CellDistillation
from icd.models import Network
from icd.plugins import fault
from icd.search.core.attempts import Attempt, AttemptResult, EpochReport, OutcomeKind
from icd.search.core.preparation import teacher_name
from icd.teacher.cache import suits
from icd.training.checkpoints import write_durably
from icd.training.engine import spent
from icd.training.hardware import device_name
from icd.training.loop import EpochMetrics, Execution, evaluation_batches, initial_student
from icd.worker.attempt_storage import check_newest, working_copy
from icd.worker.gpus import limit_memory, training_device
from icd.worker.preemption import NOTICE, PreemptionNotice
from icd.worker.shared_inputs import SharedInputs
from icd.worker.trial_folder import claim, continue_trial, take_up
from icd.worker.trial_inputs import TrialFolders, open_teacher_cache

logger = logging.getLogger(__name__)

Send = Callable[[EpochReport], bool]

_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO)
_GPU_LIBRARIES = ("CUDA", "cuDNN", "CUDNN", "cuBLAS", "CUBLAS", "cuFFT", "CUFFT")
_FIGURE_IMAGES = 2  # always the first of the validation images, so that trials can be compared


class Stopped(Exception):  # noqa: N818 - not a fault
    """The driver said after an epoch that the trial need not go on."""


class Preempted(Exception):  # noqa: N818 - not a fault
    """This process has to go, and no time is left to end the epoch."""


def attempt(
    task: Attempt,
    inputs: SharedInputs,
    send: Send,
    *,
    progress: Callable[[int, int, int], None],
    notice: PreemptionNotice = NOTICE,
) -> AttemptResult:
    """Run one attempt to its end; every fault becomes an ``AttemptResult``.

    Args:
        task: What to do.
        inputs: Kept between attempts.
        send: Told every epoch; False ends the attempt.
        progress: Called after every step with epoch, step and steps in the epoch.
        notice: That this process has to go.
    """
    if task.threads:
        torch.set_num_threads(task.threads)
    try:
        device = training_device()
        limit_memory(device, task.gpu_share)
    except SetupError as error:
        return AttemptResult(number=task.number, attempt=task.attempt, kind="gpu", reason=str(error))
    name = device_name(device)

    def ended(kind: OutcomeKind, reason: str = "", **more: Any) -> AttemptResult:
        return AttemptResult(
            number=task.number,
            attempt=task.attempt,
            kind=kind,
            reason=" ".join(reason.split()),
            device=name,
            spent=spent(),
            **more,
        )

    def step(epoch: int, step: int, steps: int) -> None:
        progress(epoch, step, steps)
        if notice.over(task.grace_seconds):
            raise Preempted(f"no time was left for the rest of epoch {epoch}")

    try:
        if notice.given:
            raise Preempted("not begun")
        with working_copy(task) as publish:
            runs = _Runs(task=task, inputs=inputs, send=send, step=step, device=device, notice=notice, publish=publish)
            return ended("complete", result=runs.train())
    except Stopped as error:
        return ended("stopped", str(error))
    except (Interrupted, Preempted) as error:
        if notice.given:
            return ended("preempted", f"{notice.reason}: {str(error).partition(';')[0]}")
        return ended("stopped", str(error))
    except NonFiniteLossError as error:
        return ended("diverged", str(error))
    except (ConfigError, DataError, StateError) as error:
        return ended("setup", str(error))
    except SetupError as error:
        return ended("disk", str(error))
    except (MemoryError, torch.OutOfMemoryError) as error:
        said = str(error).splitlines()[0] if str(error) else "MemoryError"
        return ended("memory", f"out of memory on {name}: {said}; {_peak(device)}")
    except OSError as error:
        if error.errno in _DISK:
            return ended("disk", f"{task.folder} cannot be written: {error.strerror}")
        logger.exception("trial %d, attempt %d", task.number, task.attempt)
        return ended("error", f"{type(error).__name__}: {error}"[:400])
    except Exception as error:
        logger.exception("trial %d, attempt %d", task.number, task.attempt)
        if _of_the_gpu(error):
            return ended("gpu", f"{name}: {str(error).splitlines()[0]}")
        return ended("error", (fault(error) or f"{type(error).__name__}: {error}")[:400])


def _peak(device: torch.device) -> str:
    """Say how much memory this process has had at most."""
    host = f"its process had at most {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6:.2f} GB"  # KiB on Linux
    if device.type != "cuda":
        return host
    return f"{host}, and {torch.cuda.max_memory_allocated(device) / 1e9:.2f} GB of the GPU"


def _of_the_gpu(error: Exception) -> bool:
    """Whether CUDA or one of its libraries failed: its process is not used again."""
    if isinstance(error, torch.AcceleratorError):
        return True
    return isinstance(error, RuntimeError) and any(name in str(error) for name in _GPU_LIBRARIES)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Runs:
    """The runs of an attempt, one after another.

    Attributes:
        step: Called after every step, with the epoch as the trial counts.
        publish: Sends what is new in the folder, where the root is a bucket.
    """

    task: Attempt
    inputs: SharedInputs
    send: Send
    step: Callable[[int, int, int], None]
    device: torch.device
    notice: PreemptionNotice
    publish: Callable[[], None]

    def train(self) -> Mapping[str, Any]:
        """Train what is left of each; gives the result of the last one."""
        check_newest(self.task)
        configs = {
            name: read_trial(Document(dict(document), f"trial {self.task.number}"))
            for name, document in self.task.runs.items()
        }
        result, before = dict[str, Any](), 0
        for place, (name, config) in enumerate(configs.items(), 1):
            _check_stage(self.task, config)
            # Where all have their results, only the end was not told: the last one says it again.
            if place == len(configs) or not (self.task.folder / name / "result.json").exists():
                result = self._train(name, config, before)
            before += config.training.epochs
        return result

    def _train(self, name: str, config: TrialConfig, before: int) -> dict[str, Any]:
        task, folder = self.task, self.task.folder / name
        places = TrialFolders(root=Path(task.root), data_root=Path(task.data_root) if task.data_root else None)
        execution = Execution(
            device=self.device,
            num_workers=task.threads,
            progress=lambda epoch, step, steps: self.step(before + epoch, step, steps),
            stop=self._stop(),
            engine=task.engine,
        )
        split = self.inputs.split(config, places, self.device)
        teacher = self.inputs.teacher(config, split, places, execution)
        claim(folder, config, resume=True)
        # The driver may have died between our last epoch and its ledger: say the last stored one again.
        begun = take_up(folder)
        for row in begun.rows[-1:]:
            metrics = {key: value for key, value in row.items() if key != "epoch"}
            self._say(name, before + row["epoch"], metrics, device="")

        def report(metrics: EpochMetrics) -> None:
            self._say(name, before + metrics.epoch, metrics.values, device=device_name(self.device))

        def finishing(student: Network) -> None:
            title = f"trial {name or f'{task.number:04d}'}"
            _draw(folder, title, config, split, student, teacher, self.device)
            check_newest(task)  # the result comes next

        mode: Any = task.teacher_caches.get(teacher_name(config), "off") if suits(config) else "off"
        budget_gb = float("inf")  # the driver has kept to it
        with open_teacher_cache(config, split, teacher, places, mode, budget_gb) as cache:
            execution = replace(execution, report=report, cache=cache)
            result = continue_trial(config, split, teacher, folder, execution, begun=begun, finishing=finishing)
        self.publish()
        return result

    def _say(self, run: str, epoch: int, metrics: Mapping[str, float], *, device: str) -> None:
        """Tell an epoch once it is published; after the last one nothing is left to stop."""
        task = self.task
        self.publish()
        go = self.send(
            EpochReport(
                number=task.number, attempt=task.attempt, epoch=epoch, metrics=dict(metrics), run=run, device=device
            )
        )
        if not go and epoch < task.epochs:
            raise Stopped(f"stopped after epoch {epoch}")

    def _stop(self) -> Callable[[], bool]:
        file = Path(self.task.sweep) / "stop"
        # A copy of a bucket may hold what an earlier driver was asked on this machine: one that stops begins nothing.
        stale = bool(self.task.bucket) and stop_asked(file) == "now"
        return lambda: self.notice.given or (not stale and stop_asked(file) == "now")


def _draw(
    folder: Path,
    title: str,
    config: TrialConfig,
    split: Split,
    student: Network,
    teacher: Network | None,
    device: torch.device,
) -> None:
    """Draw Gram matrices, and keep them as numbers.

    A figure that cannot be drawn is no reason to lose a trial.
    """
    try:
        from icd.worker.figures import gram_figure
        from icd.worker.gram import gram_matrices
        from icd.worker.gram_file import GRAMS_NAME, Grams, pack_grams, thumbnails

        scales = [scale for scale in getattr(config.method, "scales", ()) if scale > 1]
        if teacher is None or not isinstance(config.method, CellDistillation) or not scales:
            return
        if config.data.measure_on == "test":
            return  # a picture of test images would be a look that nobody counts
        first = split.val.subset(range(min(_FIGURE_IMAGES, len(split.val))))
        images_BCHW = next(evaluation_batches(config, split, first, Execution(device=device))).images_BCHW
        shown = scales, config.method.cluster_temperature, config.method.grid
        matrices = gram_matrices(student, teacher, images_BCHW, *shown)
        before = gram_matrices(initial_student(config, split.num_classes, device), teacher, images_BCHW, *shown)
        kept = Grams(
            teacher={scale: pair[1].numpy() for scale, pair in matrices.items()},
            student={scale: pair[0].numpy() for scale, pair in matrices.items()},
            before={scale: pair[0].numpy() for scale, pair in before.items()},
            images=thumbnails(images_BCHW.float().cpu().numpy()),
        )
        write_durably(folder / GRAMS_NAME, pack_grams(kept))
        gram_figure(folder / "grams.png", matrices, title=title)
    except Exception as error:
        logger.warning("figures of %s could not be drawn: %s", title, error)


def _check_stage(task: Attempt, config: TrialConfig) -> None:
    """Refuse test images to whatever still chooses.

    Raises:
        ConfigError: If a trial that is no confirmation wants to be measured on them.
    """
    if task.stage != "confirm" and config.data.measure_on == "test":
        where, rule = "data.measure_on", "must be val: only a confirmation sees test images"
        raise ConfigError(Problem(path=where, rule=rule, value="test", has_value=True, source=f"trial {task.number}"))


def stop_asked(path: Path) -> str:
    """Read what was asked of a sweep: ``drain``, ``now``, or nothing."""
    try:
        return path.read_text().strip()
    except OSError:
        return ""
