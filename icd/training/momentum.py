"""Stochastic gradient descent with momentum: PyTorch's own update, without the class around it.

``torch.optim.SGD`` imports the compiler at its first step, which costs every worker process 1.6 s and is never used.
The arithmetic is the library's (``torch.optim.sgd.sgd``, fused), so weights have the same bits.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.optim.sgd import sgd

from icd.config.training import TrainingConfig


class Momentum:
    """Updates weights by their gradients.

    Attributes:
        weights: What is trained.
        lr: The learning rate, a scalar on their device that may change from step to step.
    """

    def __init__(self, weights: Sequence[Tensor], training: TrainingConfig) -> None:
        self.weights, device = weights, weights[0].device
        # Where the fused kernel reads the rate from: float32 on CUDA; on a CPU float64 gives a plain number's bits.
        dtype = torch.float64 if device.type == "cpu" else torch.float32
        self.lr = torch.full((), training.lr, dtype=dtype, device=device)
        self._settings: dict[str, Any] = {
            "weight_decay": training.weight_decay,
            "momentum": training.momentum,
            "nesterov": training.nesterov,
        }
        self._momenta: list[Tensor | None] = [None] * len(weights)

    def forget_gradients(self) -> None:
        """Leave no gradient to be added to."""
        for weight in self.weights:
            weight.grad = None

    @torch.no_grad()
    def step(self) -> None:
        """Update every weight that has a gradient."""
        moved = [index for index, weight in enumerate(self.weights) if weight.grad is not None]
        weights, momenta = [self.weights[index] for index in moved], [self._momenta[index] for index in moved]
        gradients = [weight.grad for weight in weights if weight.grad is not None]
        sgd(weights, gradients, momenta, fused=True, lr=self.lr, dampening=0.0, maximize=False, **self._settings)
        for index, momentum in zip(moved, momenta, strict=True):
            self._momenta[index] = momentum

    def tensors(self) -> list[Tensor]:
        """List what a step changes in place beside the weights."""
        return [momentum for momentum in self._momenta if momentum is not None]

    def state(self) -> dict[str, Any]:
        """Give the momenta as ``torch.optim.SGD`` names them, by the weight's number."""
        known = enumerate(self._momenta)
        return {"state": {index: {"momentum_buffer": momentum} for index, momentum in known if momentum is not None}}

    def load(self, state: Mapping[str, Any]) -> None:
        """Take over what ``state`` gave, here or on another device."""
        for index, weight in enumerate(self.weights):
            momentum = state["state"].get(index, {}).get("momentum_buffer")
            self._momenta[index] = None if momentum is None else momentum.to(weight, copy=True)
