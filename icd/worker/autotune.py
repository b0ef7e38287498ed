"""What changes a student's speed and not what it learns: precision and memory layout, chosen by a few timed steps.

``precision: auto`` and ``channels_last: auto`` ask for it. The choice becomes part of the configuration, so a trial's
folder says how it was trained, and a sweep keeps one choice for each student however often it is resumed.
"""

import itertools
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from typing import Any, Literal, NamedTuple

import torch

from icd.config.training import TrainingConfig
from icd.config.trial import TrialConfig, settled
from icd.data.loader import Batch
from icd.data.split import Split
from icd.methods import CrossEntropy, Step
from icd.models import build_model
from icd.training.kernels import kernels
from icd.training.loop import Execution, to_device, train_batches
from icd.training.step import TrainStep

_ROUNDS = 5
_HOPELESS = 3.0  # a choice whose first step is so many times slower than the fastest is not timed again
_ABOUT = 1.03  # choices this close are told apart by nothing but chance


class Choice(NamedTuple):
    """How a student is computed."""

    precision: Literal["fp32", "tf32", "bf16"]
    channels_last: bool

    def __str__(self) -> str:
        return f"{self.precision}, {'channels last' if self.channels_last else 'channels first'}"


def choose(config: TrialConfig, split: Split, execution: Execution) -> tuple[Choice, Mapping[Choice, float]]:
    """Time a few steps of the student alone, with cross entropy, under every choice that ``auto`` leaves open.

    Choices take turns, so that whatever else the machine does meets all of them, and the least disturbed step of each
    counts. A teacher that runs live is not timed: it costs nothing where a cache stands for it.

    Returns:
        The first choice (fp32 before bf16, channels last before channels first) that is about as fast as the fastest,
        and seconds per step of each.
    """
    images = replace(config, training=replace(config.training, drop_last=False))
    batch = next(
        train_batches(settled(images, _choices(config.training, execution.device)[0]), split, split.train, 1, execution)
    )
    moment = Step(batch.labels_B, batch.indices_B, 1, 0)
    steps: dict[Choice, Callable[[], float]] = {}
    for choice in _choices(config.training, execution.device):
        one = _step_of(settled(config, choice), split, execution.device)
        layout = torch.channels_last if choice.channels_last else torch.contiguous_format
        shown = batch._replace(images_BCHW=batch.images_BCHW.to(execution.device).contiguous(memory_format=layout))
        steps[choice] = partial(_timed, one, shown, moment)
        steps[choice]()  # loads kernels and makes the momenta; not counted
    seconds = {choice: step() for choice, step in steps.items()}
    hopeful = [choice for choice in steps if seconds[choice] < _HOPELESS * min(seconds.values())]
    for _ in range(_ROUNDS - 1):
        for choice in hopeful:
            seconds[choice] = min(seconds[choice], steps[choice]())
    fastest = min(seconds.values())
    return next(choice for choice in steps if seconds[choice] <= _ABOUT * fastest), seconds


def described(config: TrialConfig, choice: Choice, seconds: Mapping[Choice, float]) -> str:
    """Say in a line what was chosen and why."""
    timings = ", ".join(f"{other} {value:.3g} s" for other, value in seconds.items())
    return f"student {config.student.arch}: {choice} ({timings} a step)"


def _timed(one: TrainStep, batch: Batch, moment: Step) -> float:
    """Time a step: on a GPU until it is done there, on a CPU the work of all threads, whatever else the cores do."""
    if not batch.images_BCHW.is_cuda:
        began = time.process_time()
        one(batch, None, moment, one.training.lr)
        return time.process_time() - began
    device = batch.images_BCHW.device
    torch.cuda.synchronize(device)
    began = time.perf_counter()
    with kernels(device, str(one.training.precision)):
        one(batch, None, moment, one.training.lr)
    torch.cuda.synchronize(device)
    return time.perf_counter() - began


def _choices(training: TrainingConfig, device: torch.device) -> list[Choice]:
    every = ("fp32", "tf32", "bf16") if device.type == "cuda" else ("fp32", "bf16")
    precisions: Iterator[Any] = iter(every if training.precision == "auto" else (training.precision,))
    layouts = (True, False) if training.channels_last == "auto" else (training.channels_last,)
    return [Choice(precision, bool(layout)) for precision, layout in itertools.product(precisions, layouts)]


def _step_of(config: TrialConfig, split: Split, device: torch.device) -> TrainStep:
    student = build_model(config.student.arch, num_classes=split.num_classes, stem=config.student.stem, seed=0).train()
    return TrainStep(to_device(student, config, device), CrossEntropy().build().to(device), config.training)
