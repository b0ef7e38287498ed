"""Switches belong to the process: a training sets them for itself and puts them back."""

import os

import pytest
import torch

from icd.training.kernels import DETERMINISTIC, deterministic_cudnn

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
    with deterministic_cudnn(CUDA):
        assert flags() == (True, False, strict)
        assert os.environ.get("CUBLAS_WORKSPACE_CONFIG") == (":4096:8" if strict else None)
    assert flags() == before


def test_nothing_to_choose_on_a_cpu() -> None:
    before = flags()
    with deterministic_cudnn(torch.device("cpu")):
        assert flags() == before
