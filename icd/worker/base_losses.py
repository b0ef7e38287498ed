"""Calls every base loss once on random logits, so that a wrong one is found before a teacher is trained for it.

Shape key:
    N: rows    K: classes
"""

from collections.abc import Iterable
from dataclasses import fields, replace

import torch

from icd.config.trial import TrialConfig
from icd.errors import ConfigError, Problem
from icd.losses import BASE_LOSSES, BaseLoss
from icd.losses.cells import loss_of_cells
from icd.plugin_places import place_of_class

_ROWS, _SEED = 20, 0


def try_base_losses(configs: Iterable[TrialConfig], num_classes: int, device: torch.device) -> None:
    """Call the base losses of some configurations, each once, and compute their gradients.

    Args:
        configs: What is to be trained.
        num_classes: Of the data.
        device: Where it is to be trained.

    Raises:
        ConfigError: With a line for each loss that gives another shape than ``[N]``, or a value or gradient that is not
            finite. A loss of a plugin is named by its file and the line of its class.
    """
    losses = {repr(loss): loss for config in configs for loss in _losses_of(config)}
    found: dict[tuple[type, str], Problem] = {}
    for loss in losses.values():
        if (problem := _fault(loss, num_classes, device)) is not None:
            found.setdefault((type(loss), problem.rule.partition(" with ")[0]), problem)
    if found:
        raise ConfigError(found.values())


def _losses_of(config: TrialConfig) -> list[BaseLoss]:
    values = [getattr(config.method, field.name) for field in fields(config.method)]  # type: ignore[arg-type]
    return [value for value in values if BASE_LOSSES.name_of(type(value)) is not None]


def _fault(loss: BaseLoss, num_classes: int, device: torch.device) -> Problem | None:
    """Say what is wrong with one loss."""
    source, line = place_of_class(BASE_LOSSES, type(loss))
    path = f"base loss {BASE_LOSSES.name_of(type(loss))}"
    try:
        value_N, gradient_NK = _called(loss, num_classes, device)
    except ConfigError as error:
        return replace(error.problems[0], source=source, line=line, path=path)
    for what, numbers in (("", value_N), ("the gradient by the student's logits ", gradient_NK)):
        bad = numbers[~torch.isfinite(numbers)]
        if bad.numel():
            given = " ".join(f"{field.name}={getattr(loss, field.name)}" for field in fields(loss))  # type: ignore[arg-type]
            rule = f"{what}must be finite, but got {bad[0].item()}{' with ' if given else ''}{given}"
            return Problem(rule=rule, source=source, line=line, path=path)
    return None


def _called(loss: BaseLoss, num_classes: int, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """Give the values of random rows, [N], and the gradient of their sum by the student's logits, [N, K].

    The gradient is zero where the values do not depend on the student's logits. Torch's own generators stay as they
    are, whatever the loss draws from them.
    """
    generator = torch.Generator().manual_seed(_SEED)
    student_NK, teacher_NK = (
        (3 * torch.randn(_ROWS, num_classes, generator=generator)).to(device) for _ in ("student", "teacher")
    )
    labels_N = torch.randint(num_classes, (_ROWS,), generator=generator).to(device)
    student_NK.requires_grad_()
    with torch.random.fork_rng([device] if device.type == "cuda" else []), torch.enable_grad():
        value_N = loss_of_cells(loss, student_NK.unsqueeze(1), teacher_NK.unsqueeze(1), labels_N).squeeze(1)
        if not value_N.requires_grad:
            return value_N, torch.zeros_like(student_NK)
        (gradient_NK,) = torch.autograd.grad(value_N.sum(), student_NK, allow_unused=True, materialize_grads=True)
    return value_N.detach(), gradient_NK
