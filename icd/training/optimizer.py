"""PyTorch's own SGD and AdamW, fused, their learning rate a scalar beside the weights that may change at each step.

Whoever makes the first optimizer of a process waits about 2 s for the compiler that ``torch.optim`` brings along, so it
is made where training begins and nowhere before.
"""

import gc
import sys
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from icd.config.training import TrainingConfig


def make_optimizer(weights: Sequence[Tensor], training: TrainingConfig) -> Optimizer:
    """Give the optimizer of a training for some weights."""
    device, first = weights[0].device, "torch._dynamo" not in sys.modules
    common: dict[str, Any] = {"lr": training.lr, "weight_decay": training.weight_decay, "fused": True}
    optimizer: Optimizer
    if training.optimizer == "adamw":
        betas = (training.momentum, 0.999)  # the second is torch's default, as is epsilon 1e-8
        optimizer = torch.optim.AdamW(weights, betas=betas, capturable=device.type == "cuda", **common)
    else:
        momentum, nesterov = training.momentum, training.nesterov
        optimizer = torch.optim.SGD(weights, momentum=momentum, nesterov=nesterov, **common)
    if first:  # importing the compiler left cycles that hold the frames above, and with them the student
        gc.collect()
    # Where the fused kernel reads the rate from: float32 on CUDA; on a CPU float64 gives a plain number's bits.
    dtype = torch.float64 if device.type == "cpu" else torch.float32
    optimizer.param_groups[0]["lr"] = torch.full((), training.lr, dtype=dtype, device=device)
    return optimizer


def learning_rates(training: TrainingConfig, epoch: int, num_steps: int) -> list[float]:
    """Give the learning rate of every step of an epoch; ``TrainingConfig.learning_rate`` has schedule and warm-up."""
    return [training.learning_rate(epoch, step / num_steps) for step in range(num_steps)]


def lr_scalar(optimizer: Optimizer) -> Tensor:
    """Give the scalar that the next step reads its rate from."""
    lr: Tensor = optimizer.param_groups[0]["lr"]
    return lr


def momenta(optimizer: Optimizer) -> list[Tensor]:
    """List what a step changes in place beside the weights: averages of gradients, and AdamW's count of steps."""
    return [kept for state in optimizer.state.values() for kept in state.values() if isinstance(kept, Tensor)]
