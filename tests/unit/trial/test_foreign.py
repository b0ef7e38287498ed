"""Weights files of other projects: read without trust, refused in one line."""

import argparse
import io
import os
import resource
import subprocess
from collections.abc import Mapping
from contextlib import redirect_stdout
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from icd.errors import TeacherError
from icd.models import build_model
from icd.trial import foreign
from icd.trial.foreign import read_foreign, state_dict_of
from icd.trial.teachers import fitted


@pytest.fixture(scope="module")
def weights() -> Mapping[str, Tensor]:
    return build_model("resnet8", num_classes=100, stem="cifar", seed=3).state_dict()


class Hostile:
    """A pickle that makes a file when it is loaded."""

    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self) -> tuple[object, ...]:
        return os.system, (f"touch {self.canary}",)


def run_here(command: list[str], **options: object) -> "subprocess.CompletedProcess[str]":
    """Stand in for the child process: the same body, without its limit on memory and its start of some seconds."""
    said = io.StringIO()
    with redirect_stdout(said):
        code = foreign.main(Path(command[-2]), Path(command[-1]))
    return subprocess.CompletedProcess(command, code, said.getvalue(), "")


@pytest.fixture
def in_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resource, "setrlimit", lambda what, limits: None)
    monkeypatch.setattr(subprocess, "run", run_here)


def refusal(path: Path) -> str:
    with pytest.raises(TeacherError) as caught:
        read_foreign(path)
    assert caught.value.exit_code == 6
    assert "\n" not in str(caught.value)
    assert path.name in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
@pytest.mark.usefixtures("in_process")
def test_research_checkpoint(tmp_path: Path, weights: Mapping[str, Tensor], zipped: bool) -> None:
    path = tmp_path / "best.pth"
    content = {
        "model": {f"module.{name}": tensor for name, tensor in weights.items()},
        "best_acc": np.float64(71.5),
        "opt": argparse.Namespace(lr=0.05, model="resnet8"),
    }
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    state = read_foreign(path)
    assert state.keys() == weights.keys()
    for name, tensor in weights.items():
        assert torch.equal(state[name], tensor)
    fitted(state, "resnet8", "cifar", 100, source=path.name)


def test_hostile_pickle(tmp_path: Path, weights: Mapping[str, Tensor]) -> None:
    check_hostile(tmp_path, weights, zipped=True)


@pytest.mark.usefixtures("in_process")
def test_hostile_legacy_pickle(tmp_path: Path, weights: Mapping[str, Tensor]) -> None:
    check_hostile(tmp_path, weights, zipped=False)


def check_hostile(tmp_path: Path, weights: Mapping[str, Tensor], *, zipped: bool) -> None:
    path, canary = tmp_path / "evil.pth", tmp_path / "canary"
    torch.save({"model": dict(weights), "opt": Hostile(canary)}, path, _use_new_zipfile_serialization=zipped)
    text = refusal(path)
    assert "system" in text
    assert "nothing was run" in text
    assert not canary.exists()


def test_tensor_that_declares_a_billion_numbers(tmp_path: Path) -> None:
    path = tmp_path / "bomb.pth"
    torch.save({"w": torch.zeros(1).expand(1_000_000_000)}, path)
    assert path.stat().st_size < 10_000
    assert "declares 1000000000 numbers" in refusal(path)


@pytest.mark.parametrize("content", [b"", b"these are no weights\n"], ids=["empty", "text"])
@pytest.mark.usefixtures("in_process")
def test_no_weights_file(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "weights.pth"
    path.write_bytes(content)
    assert "not a safe weights file" in refusal(path)


@pytest.mark.usefixtures("in_process")
def test_missing_file(tmp_path: Path) -> None:
    assert "no such file" in refusal(tmp_path / "none.pth")


@pytest.mark.parametrize("content", [{}, {"epoch": 3, "lr": 0.1}, [1, 2], {"model": {"a": 1}}])
def test_no_weights_inside(content: object) -> None:
    with pytest.raises(ValueError, match="it holds"):
        state_dict_of(content)


def test_other_architecture(weights: Mapping[str, Tensor]) -> None:
    with pytest.raises(TeacherError, match=r"best\.pth does not fit resnet20 .*those of resnet8") as caught:
        fitted(weights, "resnet20", "cifar", 100, source="best.pth")
    assert "\n" not in str(caught.value)


def test_other_class_count(weights: Mapping[str, Tensor]) -> None:
    with pytest.raises(TeacherError, match=r"best\.pth has 100 classes .* but 10 are needed") as caught:
        fitted(weights, "resnet8", "cifar", 10, source="best.pth")
    assert "\n" not in str(caught.value)


def test_counters_may_be_missing(weights: Mapping[str, Tensor]) -> None:
    old = {name: tensor for name, tensor in weights.items() if not name.endswith("num_batches_tracked")}
    network = fitted(old, "resnet8", "cifar", 100, source="best.pth")
    assert network.state_dict().keys() == weights.keys()
