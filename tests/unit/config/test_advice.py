"""What is allowed but probably not meant: said of trials, and of the ends of a sweep's space."""

from dataclasses import fields, replace
from typing import Any

import pytest
import torch

from icd.config.checks import idle_fields, notes_of
from icd.losses import BASE_LOSSES, BaseLoss, LocalRelations, NormalizedKD
from icd.methods import CellDistillation
from icd.search.suggest.search_space import SearchSpace
from icd.testing.losses import gradient_of
from tests.unit.config.sweeps import sweep

SETTINGS: list[BaseLoss] = [cls() for name, cls in BASE_LOSSES.items() if name != "ldrld"]
SETTINGS += [NormalizedKD(keep_target=False), LocalRelations(k=2), LocalRelations(k=3)]


def gradient(loss: BaseLoss, classes: int) -> torch.Tensor:
    drawn = torch.Generator().manual_seed(classes)
    student, teacher = (torch.randn(32, classes, generator=drawn, dtype=torch.float64) for _ in range(2))
    return gradient_of(loss, student, teacher, torch.arange(32) % classes)


@pytest.mark.parametrize("classes", [2, 3, 4, 5])
@pytest.mark.parametrize("loss", SETTINGS, ids=str)
def test_the_fields_that_change_nothing_are_named(loss: Any, classes: int) -> None:
    """Found by trying: a field is idle where another value gives every student the same gradient."""
    name = next(name for name, cls in BASE_LOSSES.items() if type(loss) is cls)
    if isinstance(loss, LocalRelations) and loss.k > classes:
        return
    numbers = [field.name for field in fields(loss) if isinstance(getattr(loss, field.name), float)]
    base = gradient(loss, classes)
    same = [
        f"{name}.{field}"
        for field in numbers
        if torch.allclose(gradient(replace(loss, **{field: getattr(loss, field) + 1.25}), classes), base, atol=1e-12)
    ]
    if isinstance(loss, LocalRelations) and loss.k == 2:
        same.remove("ldrld.full_weight")  # as in the authors' code, with any number of classes
    assert sorted(same) == sorted(idle_fields(CellDistillation(base_loss=loss), classes))


def test_a_sweep_is_given_the_advice_of_its_ends() -> None:
    space = "base_loss: [kd, dkd]\nwarmup_epochs: {low: 0, high: 99}\ntraining: {lr: {low: 0.1, high: 9}}"
    configs = SearchSpace(sweep(space, data="digits100")).extremes()
    notes = notes_of(configs, 2)
    assert len(notes) == len(set(notes)) == 3
    for part in (
        "training.lr 9:",
        "method.warmup_epochs 99:",
        "method.base_loss.dkd.beta: cannot matter with 2 classes",
    ):
        assert any(note.startswith(part) for note in notes), notes


def test_many_rates_that_are_too_high_are_one_note_which_names_the_largest() -> None:
    configs = SearchSpace(sweep("training: {lr: {low: 0.1, high: 9}}", data="digits100")).extremes()
    rates = [replace(config, training=replace(config.training, lr=lr)) for lr in (0.5, 7.0, 2.0) for config in configs]
    assert [note.partition(":")[0] for note in notes_of(rates) if "training.lr" in note] == ["training.lr 7"]
