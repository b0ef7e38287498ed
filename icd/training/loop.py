"""The training loop: one for teachers and students, read from top to bottom.

Everything random is counted, not remembered: the order of images, their views and CRD's contrasts are pure functions
of (seed, epoch, image), what a network draws (dropout) one of (seed, epoch, step), so a run that was killed and resumed
is the run that was not, bit for bit on a CPU.
"""

import logging
import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from icd.config.sweep import Engine
from icd.config.trial import Fingerprint, TeacherMode, TrialConfig, plain_data
from icd.data.images import ImageSet, Told, telling
from icd.data.loader import Batch
from icd.data.split import Split
from icd.errors import CheckpointError, NonFiniteLossError
from icd.methods import MethodSetup
from icd.models import Network, build_model
from icd.training import checkpoints
from icd.training.background_writer import BackgroundWriter
from icd.training.cached_teacher import CachedTeacher
from icd.training.draws import generators_kept
from icd.training.engine import DeviceEpochs, own_stream, unsuited
from icd.training.epoch_inputs import EagerEpochs, EpochInputs
from icd.training.evaluation import evaluate
from icd.training.first_losses import beginning, noted, stored
from icd.training.gradient_probe import GradientProbe
from icd.training.kernels import kernels
from icd.training.optimizer import learning_rates
from icd.training.step import LossLog, TrainStep

logger = logging.getLogger(__name__)

CPU = torch.device("cpu")
# On an accelerator every look at a loss waits for the device; a non-finite one is found within this many steps.
_STEPS_BETWEEN_LOOKS = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class EpochMetrics:
    """What a trial says at the end of a reporting epoch; its checkpoint, if any, is durable by then."""

    epoch: int
    values: Mapping[str, float]


Progress = Callable[[int, int, int], None]  # epoch, step, steps in the epoch


@dataclass(frozen=True, slots=True, kw_only=True)
class Execution:
    """Where and how a trial runs; nothing here may change its result beyond rounding.

    Attributes:
        device: ``cpu`` or ``cuda``.
        num_workers: Threads that decode images, for data sets read from files.
        cache: Answers for the teacher; None runs it in every step.
        checkpoints: Folder for checkpoints; None writes none and resumes nothing.
        report: Called after every reporting epoch, on another thread while the next one is under way; what it raises
            ends the training.
        progress: Called after every step, and with step 0 while images are read or measured on, or a cache is filled.
        stop: Asked after every epoch; True saves a checkpoint and ends the training there.
        engine: ``graph`` keeps whole epochs on the device and records a step as a CUDA graph (icd/training/engine.py),
            for the trials that allow it; ``eager`` hands it batch after batch; ``auto`` is ``eager``.
    """

    device: torch.device = CPU
    num_workers: int = 0
    cache: CachedTeacher | None = None
    checkpoints: Path | None = None
    report: Callable[[EpochMetrics], None] = lambda metrics: None
    progress: Progress = lambda epoch, step, steps: None
    stop: Callable[[], bool] = lambda: False
    engine: Engine = "auto"


@dataclass(frozen=True, slots=True, kw_only=True)
class Trained:
    """A network after its last epoch, and how its training began where that was noted.

    Attributes:
        engine: What ran the steps, ``graph`` or ``eager``, and why where another was asked for.
    """

    network: Network
    epoch: int
    finished: bool
    metrics: Mapping[str, float]
    fingerprint: Fingerprint | None = None
    engine: str = "eager"


def initial_student(config: TrialConfig, num_classes: int, device: torch.device) -> Network:
    """Give the student as it is before its first step; equal configurations give equal weights."""
    own = config.student
    student = build_model(own.arch, num_classes=num_classes, stem=own.stem, pretrained=own.pretrained, seed=config.seed)
    return to_device(student, config, device)


def train(
    config: TrialConfig,
    split: Split,
    teacher: Network | None,
    execution: Execution,
    newest: checkpoints.Checkpoint | None = None,
) -> Trained:
    """Train the student of a configuration; a teacher is trained the same way, with cross entropy alone.

    Args:
        config: What to train; equal configurations give equal results.
        split: Images; the test set stays closed.
        teacher: The frozen teacher, for methods that need one.
        execution: Device, checkpoints and callbacks.
        newest: The newest checkpoint where the caller has read it; its content is taken out.

    Raises:
        NonFiniteLossError: With the term, epoch and step at which training broke.
        CheckpointError: If the checkpoints found belong to another configuration, or none is whole.
    """
    training, device, measured = config.training, execution.device, config.data.measure_on
    if not training.is_settled:
        raise ValueError("precision and layout must be chosen before a trial is trained (icd.worker.autotune)")
    chosen, kept = kernels(device, str(training.precision)), generators_kept(device)
    with chosen, own_stream(device), kept, BackgroundWriter() as writer:
        student = initial_student(config, split.num_classes, device)
        teacher = to_device(teacher, config, device).eval().requires_grad_(False) if teacher is not None else None
        method = build_method(config, split, student, teacher).to(device)
        train_step = TrainStep(student, method, training)
        answered: TeacherMode = "none" if teacher is None else "live" if execution.cache is None else "cache"
        _forget_peak(device)
        start, metrics, first = _resume(config, execution, train_step, beginning(config, device, answered), newest)
        images, val_images = (held(part, config, execution) for part in (split.train, split.val))
        inputs = EpochInputs(config, split, images, execution, teacher)
        num_steps, cache = inputs.num_steps, inputs.cache
        inputs.check_batch_of_one(student)
        epochs, probe = _epochs(train_step, inputs, execution.engine), GradientProbe(train_step, inputs)
        epoch, stopping = start, False

        for epoch in range(start + 1, training.epochs + 1):
            started = time.perf_counter()
            student.train()
            method.train()
            reporting, computed = training.reports(epoch), 0 if cache is None else cache.computed
            losses = LossLog(epoch, look_every=1 if device.type == "cpu" else _STEPS_BETWEEN_LOOKS)
            if num_steps == 1:
                writer.join()
            for step, values_L in enumerate(epochs.steps(epoch), start=1):
                losses.add(train_step.names, values_L)
                execution.progress(epoch, step, num_steps)
                # Before its last step the epoch before is told: a kill costs one finished epoch, never two.
                if step == num_steps - 1 or not writer.busy:
                    writer.join()
            means, trained_s = losses.means(), time.perf_counter() - started
            asked = 0 if teacher is None else inputs.num_shown if cache is None else cache.computed - computed
            first = noted(first, losses)
            stopping = epoch < training.epochs and execution.stop()
            if reporting:
                gradients = probe(epoch) if training.measures(epoch) else {}
                told = partial(execution.progress, epoch, 0, num_steps)
                batches = evaluation_batches(config, split, val_images, execution, told)
                validation = evaluate(train_step.result.eval(), batches)
                if not math.isfinite(validation["loss"]):
                    raise NonFiniteLossError(f"{measured}/loss", epoch, num_steps - 1, validation["loss"])
                metrics = {
                    "train/loss": sum(means.values()),
                    **{f"train/loss/{name}": value for name, value in means.items()},
                    **gradients,
                    **{f"{measured}/{name}": value for name, value in validation.items()},
                    "teacher/images": float(asked),  # that it was run on
                    "lr": learning_rates(training, epoch, num_steps)[-1],
                    "time": time.time(),  # stays with the epoch's numbers wherever they are copied
                    "speed/images_per_second": inputs.num_shown / trained_s,
                    "speed/data_share": epochs.data_seconds / trained_s,  # of the training, spent waiting for images
                    **_costs(device, trained_s, time.perf_counter() - started),
                }
            if reporting or stopping:
                payload = {
                    "key": config.key(),
                    **train_step.state(),
                    "metrics": dict(metrics),
                    "first": plain_data(first),
                    "reported": reporting,  # whether the metrics are this epoch's
                }
                writer.submit(partial(_save_and_report, execution, epoch, payload))
            if stopping:
                break
        return Trained(
            network=train_step.result,
            epoch=epoch,
            finished=not stopping,
            metrics=metrics,
            fingerprint=None if stopping else first,
            engine=epochs.name,
        )


def _epochs(train_step: TrainStep, inputs: EpochInputs, engine: Engine) -> EagerEpochs | DeviceEpochs:
    """Choose where the epochs live."""
    problem = unsuited(inputs.config, inputs.images)
    if engine == "graph" and not problem:
        return DeviceEpochs(train_step, inputs)
    epochs = EagerEpochs(train_step, inputs)
    if engine == "graph":
        epochs.name = f"eager: {problem}"
        logger.warning("no step is recorded as a CUDA graph: %s", problem)
    return epochs


def held(images: ImageSet, config: TrialConfig, execution: Execution) -> ImageSet:
    """Give images as a trial's epochs show them: in memory where they fit, else as files."""
    with telling(partial(execution.progress, 0, 0, 1)):
        return images.held(config.training.augmentation, execution.device, execution.num_workers)


def train_batches(
    config: TrialConfig, split: Split, images: ImageSet, epoch: int, execution: Execution
) -> Iterator[Batch]:
    """Batches of an epoch: counted order, counted views."""
    inputs = EpochInputs(config, split, images, execution)
    return inputs.show(*inputs.order(epoch), config.training.batch_size)


def evaluation_batches(
    config: TrialConfig, split: Split, images: ImageSet, execution: Execution, told: Told | None = None
) -> Iterator[Batch]:
    """Batches of the test-time view of some images, in their own order; ``told`` is called before each."""
    for batch in EpochInputs(config, split, images, execution).show(range(len(images)), None, 256):
        if told:
            told()
        yield batch


def to_device(network: Network, config: TrialConfig, device: torch.device) -> Network:
    """Bring a network to its device, in the training's memory layout; weights that lie so are left as they are."""
    layout = torch.channels_last if config.training.uses_channels_last else torch.contiguous_format
    return network.to(device=device, memory_format=layout)  # type: ignore[call-overload, no-any-return]


def build_method(config: TrialConfig, split: Split, student: Network, teacher: Network | None) -> nn.Module:
    """Make the module of a trial's method, for these two networks."""
    setup = MethodSetup(
        student_channels=student.head.in_features,
        teacher_channels=teacher.head.in_features if teacher is not None else 0,
        labels_N=split.train.labels_N.cpu().numpy(),
        seed=config.seed,
    )
    return config.method.build(setup)


def _resume(
    config: TrialConfig,
    execution: Execution,
    train_step: TrainStep,
    begun: Fingerprint,
    found: checkpoints.Checkpoint | None,
) -> tuple[int, dict[str, float], Fingerprint | None]:
    """Continue from the newest whole checkpoint, if there is one; returns its epoch, metrics and first losses."""
    if found is None and execution.checkpoints is not None:
        found = checkpoints.newest(execution.checkpoints)
    if found is None:
        return 0, {}, begun
    if found.payload["key"] != config.key():
        raise CheckpointError(f"{found.path} belongs to another configuration (key {found.payload['key'][:12]})")
    train_step.load(found.payload)
    logger.info("continuing after epoch %d (%s)", found.epoch, found.path.name)
    metrics, first = dict(found.payload["metrics"]), stored(found.payload.get("first"))
    found.payload.clear()  # who called may hold it until the training ends
    return found.epoch, metrics, first


def _save_and_report(execution: Execution, epoch: int, payload: Mapping[str, Any]) -> None:
    """Durable first, then said: whoever hears of an epoch can rely on its checkpoint."""
    if execution.checkpoints is not None:
        checkpoints.save_epoch(execution.checkpoints, epoch, payload)
    if payload["reported"]:
        execution.report(EpochMetrics(epoch=epoch, values=payload["metrics"]))


def _costs(device: torch.device, train_s: float, epoch_s: float) -> dict[str, float]:
    costs = {"seconds/train": train_s, "seconds/epoch": epoch_s}
    if device.type == "cuda":
        costs["gpu/memory_gb"] = torch.cuda.max_memory_allocated(device) / 1e9
        _forget_peak(device)
    return costs


def _forget_peak(device: torch.device) -> None:
    """Count the most memory in use anew: else it is that of the process's largest trial so far."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
