"""How a network is trained: optimizer, schedule, batches and views, with the authors' settings as presets.

Source of the presets: the configuration files of SDD, iCD, LDRLD and mdistiller ("Protocols" in
docs/reference/methods.md).
"""

import math
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from icd.data.views import ViewFamily
from icd.fields import Checked, Count, FieldProblem, NonNegative, NonNegativeInt, Positive, Range

Share = Annotated[float, Range(above=0, at_most=1)]
Fraction = Annotated[float, Range(at_least=0, below=1)]
Decay = Annotated[float, Range(above=0, below=1)]

# The authors train these families with a smaller learning rate (0.01 instead of 0.05).
SMALL_LR_FAMILIES = ("mobilenetv2", "shufflenetv1", "shufflenetv2")


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingConfig(Checked):
    """Everything about the training but the loss; one value decides every step.

    Attributes:
        augmentation: Augmentation, as a family of numbered views; its size is the image size.
        epochs: Number of epochs; the last one's weights are the result.
        batch_size: Images per step.
        drop_last: Leave out the last, smaller batch of an epoch.
        lr: Learning rate at the start.
        schedule: ``step`` multiplies by ``lr_decay`` after each milestone; ``cosine`` falls to 0 at the end.
        milestones: Epochs after which the rate drops: 150 means that epoch 151 is the first with the lower rate.
        lr_decay: Factor at a milestone.
        lr_warmup_epochs: The rate grows linearly over these epochs (LDRLD: 20).
        optimizer: ``sgd``, or ``adamw`` (Loshchilov and Hutter, ICLR 2019). Over a preset, whose numbers are SGD's,
            ``adamw`` starts from torch's: lr 0.001, weight_decay 0.01, no Nesterov momentum.
        momentum: Of SGD; of AdamW its beta_1 (beta_2 is 0.999, epsilon 1e-8).
        nesterov: Nesterov momentum, of SGD.
        weight_decay: On all parameters; SGD adds it to the gradient, AdamW shrinks the weights by lr times it.
        label_smoothing: Share e of a label that is spread over all K classes: the cross entropy with the labels is
            taken with 1 - e + e / K on the label and e / K elsewhere. Distillation terms are left alone.
        ema_decay: Decay d of a moving average of the student's weights, which is then evaluated and exported in place
            of them: after step t it moves to them by 1 - min(d, (1 + t) / (10 + t)). null for none.
        clip_norm: Largest global gradient norm; null for no clipping.
        precision: ``fp32``; ``tf32`` for products of 10-bit mantissas on NVIDIA GPUs, elsewhere fp32; ``bf16`` for
            automatic mixed precision; or ``auto`` for the student's fastest one here.
        channels_last: Memory layout; 1.25-1.7x faster on CPUs, same result up to rounding. ``auto`` times both.
        report_every: Evaluate, save and report every so many epochs, and at the last.
        measure_every: Measure the gradient of each term of the loss at the first reporting epoch after every so many,
            and at the last; 0 for never. Changes no result, so it is no part of a trial's key.
    """

    augmentation: ViewFamily
    epochs: Count
    batch_size: Count
    lr: Positive
    weight_decay: NonNegative
    milestones: tuple[Count, ...] = ()
    schedule: Literal["step", "cosine"] = "step"
    lr_decay: Share = 0.1
    lr_warmup_epochs: NonNegative = 0.0
    optimizer: Literal["sgd", "adamw"] = "sgd"
    momentum: Fraction = 0.9
    nesterov: bool = False
    label_smoothing: Fraction = 0.0
    ema_decay: Decay | None = None
    clip_norm: Positive | None = None
    drop_last: bool = False
    precision: Literal["fp32", "tf32", "bf16", "auto"] = "fp32"
    channels_last: Literal[True, False, "auto"] = True
    report_every: Count = 1
    measure_every: NonNegativeInt = 1

    def rules(self) -> Iterator[FieldProblem]:
        if list(self.milestones) != sorted(set(self.milestones)):
            yield FieldProblem("milestones", "milestones must ascend", self.milestones)
        elif self.schedule != "step" and self.milestones:
            rule = f"milestones belong to schedule step, and schedule {self.schedule} would ignore them"
            yield FieldProblem("milestones", rule, self.milestones)
        elif self.milestones and self.milestones[-1] >= self.epochs:
            rule = f"milestones < epochs ({self.epochs}) must hold"
            yield FieldProblem("milestones", rule, self.milestones)
        if self.nesterov and self.momentum == 0:
            yield FieldProblem("nesterov", "nesterov needs momentum > 0", self.nesterov)
        elif self.nesterov and self.optimizer != "sgd":
            yield FieldProblem("nesterov", "nesterov belongs to optimizer sgd", self.nesterov)

    @property
    def is_settled(self) -> bool:
        """Whether nothing is left to be chosen by timing."""
        return "auto" not in (self.precision, self.channels_last)

    @property
    def uses_channels_last(self) -> bool:
        """The memory layout, once it is chosen."""
        if self.channels_last == "auto":
            raise ValueError("the layout must be chosen before it is used (icd.worker.autotune)")
        return self.channels_last

    def reports(self, epoch: int) -> bool:
        """Whether an epoch counted from 1 is evaluated, saved and reported."""
        return epoch % self.report_every == 0 or epoch == self.epochs

    def measures(self, epoch: int) -> bool:
        """Whether the gradients are measured at a reporting epoch."""
        if not self.measure_every:
            return False
        before = (epoch - 1) // self.report_every * self.report_every  # the reporting epoch before this one
        return epoch // self.measure_every > before // self.measure_every or epoch == self.epochs

    def learning_rate(self, epoch: int, progress: float) -> float:
        """Learning rate in an epoch counted from 1, ``progress`` in [0, 1) through it.

        The step schedule and the warm-up change between epochs only, as the authors' do.
        """
        warmup = min(epoch / self.lr_warmup_epochs, 1.0) if self.lr_warmup_epochs else 1.0
        if self.schedule == "cosine":
            return self.lr * warmup * 0.5 * (1 + math.cos(math.pi * (epoch - 1 + progress) / self.epochs))
        passed = sum(epoch > milestone for milestone in self.milestones)
        return self.lr * warmup * self.lr_decay**passed


PRESETS: Mapping[str, Mapping[str, Any]] = tomllib.loads(Path(__file__).with_name("presets.toml").read_text("utf-8"))

# torch's own defaults; what a preset says of these fields is SGD's.
_ADAMW: Mapping[str, Any] = {"lr": 0.001, "weight_decay": 0.01, "nesterov": False}
# Families for which the preset's learning rate is replaced.
_SMALL_LR_PRESETS = ("cifar100", "cub200")


def preset_fields(preset: str, family: str, changes: Mapping[str, Any]) -> dict[str, Any]:
    """Give a preset's fields for a network family, with the user's changes laid over.

    Where only the number of epochs changes, milestones move with it (240 -> 24 epochs: 150 -> 15), so that a shorter
    run keeps the shape of its schedule; a schedule other than ``step`` drops them.
    """
    values = dict(PRESETS[preset])
    if family in SMALL_LR_FAMILIES and preset in _SMALL_LR_PRESETS:
        values["lr"] = 0.01
    if changes.get("optimizer") == "adamw":
        values |= _ADAMW
    epochs = changes.get("epochs")
    if "milestones" in values and "milestones" not in changes:
        if changes.get("schedule", values.get("schedule", "step")) != "step":
            values["milestones"] = []
        elif isinstance(epochs, int) and not isinstance(epochs, bool) and 1 <= epochs < 10**6:
            moved = {round(milestone * epochs / values["epochs"]) for milestone in values["milestones"]}
            values["milestones"] = sorted(milestone for milestone in moved if 1 <= milestone < epochs)
    return {**values, **changes}
