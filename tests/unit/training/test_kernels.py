"""Switches belong to the process: a training sets them for itself and puts them back."""

import os
from contextlib import AbstractContextManager
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch

from icd.training import kernels, loop
from icd.training.kernels import DETERMINISTIC, products

CUDA = torch.device("cuda")  # only the kind is asked for


def flags() -> tuple[bool, bool, bool]:
    cudnn = torch.backends.cudnn
    return cudnn.deterministic, cudnn.benchmark, torch.are_deterministic_algorithms_enabled()


@pytest.mark.parametrize("strict", [False, True])
def test_the_switches_are_set_and_put_back(monkeypatch: pytest.MonkeyPatch, strict: bool) -> None:
    monkeypatch.setenv(DETERMINISTIC, "1" if strict else "0")
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", "")
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG")
    monkeypatch.setattr(torch.backends.cudnn, "benchmark", True)
    before = flags()
    with kernels.kernels(CUDA, "fp32"):
        assert flags() == (True, False, strict)
        assert os.environ.get("CUBLAS_WORKSPACE_CONFIG") == (":4096:8" if strict else None)
    assert flags() == before


def test_nothing_to_choose_on_a_cpu() -> None:
    before = flags()
    with kernels.kernels(torch.device("cpu"), "fp32"):
        assert flags() == before


def tf32() -> tuple[bool, bool]:
    return torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32


@pytest.mark.parametrize("rounded", [False, True])
def test_products_are_rounded_only_where_that_was_asked_for(rounded: bool) -> None:
    """Torch's own default rounds in convolutions alone, whatever the program calls its precision."""
    before = tf32()
    with products(CUDA, tf32=rounded):
        assert tf32() == (rounded, rounded)
        with products(CUDA, tf32=False):  # a teacher that runs beside it
            assert tf32() == (False, False)
        assert tf32() == (rounded, rounded)
    assert tf32() == before


@pytest.mark.parametrize("precision", ["fp32", "tf32", "bf16"])
def test_a_training_rounds_as_its_precision_says(monkeypatch: pytest.MonkeyPatch, precision: str) -> None:
    asked: list[bool] = []

    def noted(device: torch.device, *, tf32: bool) -> AbstractContextManager[None]:
        asked.append(tf32)
        raise InterruptedError

    monkeypatch.setattr(kernels, "products", noted)
    training = SimpleNamespace(is_settled=True, precision=precision)
    config: Any = SimpleNamespace(training=training, data=SimpleNamespace(measure_on="val"))
    with pytest.raises(InterruptedError):
        loop.train(config, cast("Any", None), None, loop.Execution(device=CUDA))
    assert asked == [precision == "tf32"]
