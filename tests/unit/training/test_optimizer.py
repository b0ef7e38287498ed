"""The optimizer goes on from a checkpoint as if it had not stopped, and is not paid for by who trains nothing."""

import io
import subprocess
import sys
from typing import Any

import pytest
import torch
from torch import Tensor

from icd.config.training import TrainingConfig
from icd.data.views import CropFlip
from icd.training.background_writer import snapshot
from icd.training.optimizer import lr_scalar, make_optimizer, momenta


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
    {"nesterov": False, "weight_decay": 0.0},
    {"nesterov": False, "momentum": 0.0},
    {"nesterov": False, "optimizer": "adamw"},
]


def plainly(weights: list[Tensor], settings: TrainingConfig) -> torch.optim.Optimizer:
    """Make torch's own, with a number for a rate."""
    if settings.optimizer == "adamw":
        return torch.optim.AdamW(weights, lr=0.1, weight_decay=settings.weight_decay, fused=True)
    names = ("momentum", "weight_decay", "nesterov")
    return torch.optim.SGD(weights, lr=0.1, **{name: getattr(settings, name) for name in names}, fused=True)


@pytest.mark.parametrize("changes", SETTINGS)
def test_a_tensor_s_rate_has_a_number_s_bits_and_a_checkpoint_changes_nothing(changes: dict[str, Any]) -> None:
    settings = training(**changes)
    ours, theirs = weights(), weights()
    plain = plainly(theirs, settings)
    optimizer = make_optimizer(ours, settings)
    for step, lr in enumerate([0.1, 0.05, 0.3, 0.025]):
        give_gradients(ours, step)
        give_gradients(theirs, step)
        lr_scalar(optimizer).fill_(lr)
        plain.param_groups[0]["lr"] = lr
        optimizer.step()
        plain.step()
        assert all(torch.equal(one, other) for one, other in zip(ours, theirs, strict=True))
        if step == 1:
            file = io.BytesIO()
            torch.save(snapshot(optimizer.state_dict()["state"]), file)
            file.seek(0)
            strides = [momentum.stride() for momentum in momenta(optimizer)]
            optimizer = make_optimizer(ours, settings)
            stored = torch.load(file, weights_only=True)
            optimizer.load_state_dict({**optimizer.state_dict(), "state": stored})
            assert [momentum.stride() for momentum in momenta(optimizer)] == strides
    kept = 3 if settings.optimizer == "adamw" else int(settings.momentum > 0)  # of each of two trained weights
    assert len(momenta(optimizer)) == 2 * kept
    optimizer.zero_grad()
    assert all(weight.grad is None for weight in ours)


def test_who_trains_nothing_does_not_pay_for_the_compiler() -> None:
    """Torch brings it along with the first optimizer of a process, which takes 2 s."""
    code = (
        "import sys; import icd.training.loop, icd.teacher.store, icd.worker.trial_folder\n"
        "print(*sorted({'torch._dynamo', 'sympy'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""
