"""Tries a configuration before money is spent on it: one forward of everything it will need, or a few timed steps."""

import contextlib
import itertools
import math
import statistics
import time
from collections.abc import Mapping
from dataclasses import replace
from typing import NamedTuple

import torch

from icd.config.trial import TrialConfig
from icd.data.split import Split
from icd.errors import ConfigError, Problem
from icd.methods import LiveOutputs, Step
from icd.models import Network, Output, build_model
from icd.training.engine import WARM_STEPS
from icd.training.epoch_inputs import EpochInputs
from icd.training.evaluation import evaluate
from icd.training.kernels import kernels
from icd.training.loop import Execution, build_method, evaluation_batches, held, train, train_batches

_PROBE_IMAGES = 4
_TIMED_STEPS = 6


class Probe:
    """Runs forwards; a network's answer is kept, because many configurations differ only in the loss."""

    def __init__(self, split: Split, execution: Execution) -> None:
        self.split, self.execution = split, execution
        self._students: dict[tuple[object, ...], tuple[Network, Output]] = {}
        self._teachers: dict[tuple[int, object], Output] = {}

    def __call__(self, config: TrialConfig, teacher: Network | None) -> Mapping[str, float]:
        """Compute a configuration's loss terms for a few training images in its last epoch, with full warm-up.

        Raises:
            ConfigError: If a term is not finite, or the batches do not suit the number of training images.
        """
        small = replace(config, training=replace(config.training, batch_size=_PROBE_IMAGES, drop_last=False))
        batch = next(
            iter(train_batches(small, self.split, self.split.train.to(self.execution.device), 1, self.execution))
        )
        student, output = self._student(config, batch.images_BCHW)
        inputs = EpochInputs(config, self.split, self.split.train, self.execution)
        if inputs.num_steps:  # where no batch can be filled, it says so
            inputs.check_batch_of_one(student)
        teacher_side = None
        if teacher is not None:
            teacher_side = LiveOutputs(*self._teacher(teacher, config, batch.images_BCHW), teacher.head)
        method = build_method(config, self.split, student, teacher).to(self.execution.device)
        where = Step(batch.labels_B, batch.indices_B, config.training.epochs, 0)
        with torch.no_grad():
            given = method(LiveOutputs(*output, student.head), teacher_side, where)
            scalars = isinstance(given, dict) and all(torch.is_tensor(t) and t.dim() == 0 for t in given.values())
            if not scalars:
                rule = f"the module of {type(config.method).__name__} must give a dictionary of scalar terms"
                raise ConfigError(Problem(path="method", rule=rule, value=type(given).__name__))
            terms = {name: term.item() for name, term in given.items()}
        rule, hint = "must be finite for every configuration of the space", str(config.to_data()["method"])
        bad = [
            Problem(path="space", rule=f"loss term {name!r} {rule}", value=value, hint=hint)
            for name, value in terms.items()
            if not math.isfinite(value)
        ]
        if bad:
            raise ConfigError(bad)
        return terms

    def _student(self, config: TrialConfig, images_BCHW: torch.Tensor) -> tuple[Network, Output]:
        key = (config.student, config.training.augmentation)
        if key not in self._students:
            network = build_model(
                config.student.arch, num_classes=self.split.num_classes, stem=config.student.stem, seed=config.seed
            ).to(self.execution.device)
            with torch.no_grad():
                self._students[key] = (network, network(images_BCHW))
        return self._students[key]

    def _teacher(self, teacher: Network, config: TrialConfig, images_BCHW: torch.Tensor) -> Output:
        key = (id(teacher), config.training.augmentation)
        if key not in self._teachers:
            with torch.no_grad():
                self._teachers[key] = teacher.to(self.execution.device).eval()(images_BCHW)
        return self._teachers[key]


class Pace(NamedTuple):
    """Measured cost of a configuration on this device."""

    seconds_per_step: float
    steps: int
    evaluation_seconds: float
    spread: float  # largest over median step

    @property
    def epoch_seconds(self) -> float:
        """One epoch and its evaluation."""
        return self.seconds_per_step * self.steps + self.evaluation_seconds


class _EnoughError(Exception):
    """Ends a measurement."""


def measure_pace(config: TrialConfig, split: Split, teacher: Network | None, execution: Execution) -> Pace:
    """Train a few steps with the real loop and evaluate once, on the clock."""
    marks: list[float] = []
    num_steps = 1
    # On CUDA the first steps load kernels, and the one after them may be recorded as a graph.
    untimed = WARM_STEPS + 1 if execution.device.type == "cuda" else 0

    def progress(epoch: int, step: int, steps: int) -> None:
        nonlocal num_steps
        if not step:  # nothing is trained meanwhile
            return
        if execution.device.type == "cuda":
            torch.cuda.synchronize(execution.device)
        marks.append(time.perf_counter())
        num_steps = steps
        if len(marks) > untimed + _TIMED_STEPS:
            raise _EnoughError

    with contextlib.suppress(_EnoughError):
        train(config, split, teacher, replace(execution, progress=progress, checkpoints=None))
    timed = marks[untimed:] if len(marks) > untimed + 1 else marks
    taken = [after - before for before, after in itertools.pairwise(timed)] or [0.0]
    network = build_model(config.student.arch, num_classes=split.num_classes, stem=config.student.stem)
    network = network.to(execution.device).eval()
    started = time.perf_counter()
    with kernels(execution.device, str(config.training.precision)):
        evaluate(network, evaluation_batches(config, split, held(split.val, config, execution), execution))
    evaluation = time.perf_counter() - started
    typical = statistics.median(taken)
    return Pace(typical, num_steps, evaluation, max(taken) / typical if typical else 1.0)
