"""The update is PyTorch's to the bit, and imports nothing that a worker does not need."""

import subprocess
import sys
from typing import Any

import pytest
import torch
from torch import Tensor

from icd.config.training import TrainingConfig
from icd.data.views import CropFlip
from icd.training.momentum import Momentum


def training(**changes: Any) -> TrainingConfig:
    fields: dict[str, Any] = {"weight_decay": 1e-2, "momentum": 0.9, "nesterov": True, **changes}
    return TrainingConfig(epochs=1, batch_size=4, lr=0.1, augmentation=CropFlip(size=32, pad=4), **fields)


def weights() -> list[Tensor]:
    torch.manual_seed(0)
    made = [torch.randn(3, 5), torch.randn(7), torch.randn(2, 3, 4, 4).to(memory_format=torch.channels_last)]
    return [weight.requires_grad_() for weight in made]


def give_gradients(to: list[Tensor], step: int) -> None:
    """Give all but the second one, which is never trained."""
    torch.manual_seed(step)
    for index, weight in enumerate(to):
        gradient = torch.randn(weight.shape)
        weight.grad = gradient if index != 1 else None


SETTINGS: list[dict[str, Any]] = [
    {},
    {"nesterov": False},
    {"nesterov": False, "weight_decay": 0.0},
    {"nesterov": False, "momentum": 0.0},
]


@pytest.mark.parametrize("changes", SETTINGS)
def test_it_is_the_library_s_update(changes: dict[str, Any]) -> None:
    settings = training(**changes)
    ours, theirs = weights(), weights()
    names = ("momentum", "weight_decay", "nesterov")
    plain = torch.optim.SGD(theirs, lr=0.1, **{name: getattr(settings, name) for name in names}, fused=True)
    optimizer = Momentum(ours, settings)
    for step, lr in enumerate([0.1, 0.05, 0.3, 0.025]):
        give_gradients(ours, step)
        give_gradients(theirs, step)
        optimizer.lr.fill_(lr)
        plain.param_groups[0]["lr"] = lr
        optimizer.step()
        plain.step()
        if step == 1:  # a checkpoint of either can be gone on from
            state = plain.state_dict()["state"]
            named = {index: kept for index, kept in state.items() if kept.get("momentum_buffer") is not None}
            again = optimizer.state()["state"]
            assert again.keys() == named.keys()
            assert all(torch.equal(again[index]["momentum_buffer"], named[index]["momentum_buffer"]) for index in named)
            optimizer = Momentum(ours, settings)
            optimizer.load(plain.state_dict())
        assert all(torch.equal(one, other) for one, other in zip(ours, theirs, strict=True))
    optimizer.forget_gradients()
    assert all(weight.grad is None for weight in ours)


def test_what_is_loaded_is_a_copy() -> None:
    made = weights()
    first = Momentum(made, training())
    give_gradients(made, 0)
    first.step()
    second = Momentum(made, training())
    second.load(first.state())
    kept = [momentum.clone() for momentum in first.tensors()]
    assert len(kept) == 2
    second.step()
    assert all(torch.equal(one, other) for one, other in zip(first.tensors(), kept, strict=True))
    assert [momentum.stride() for momentum in second.tensors()] == [momentum.stride() for momentum in kept]


def test_a_step_does_not_import_the_compiler() -> None:
    """It costs every worker 1.6 s."""
    code = (
        "import sys, torch; from icd.training.momentum import Momentum\n"
        "from tests.unit.training.test_momentum import *\n"
        "made = weights(); one = Momentum(made, training()); give_gradients(made, 0); one.step()\n"
        "print(*sorted({'torch._dynamo', 'sympy'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""
