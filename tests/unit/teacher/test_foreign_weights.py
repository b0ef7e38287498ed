"""Weights files of other projects: read without trust, refused in one line."""

import argparse
import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from icd.cli.main import main
from icd.errors import TeacherError
from icd.models import build_model
from icd.teacher import foreign_weights as foreign
from icd.teacher.foreign_weights import read_foreign, state_dict_of
from icd.teacher.store import fitted
from icd.training.student_file import write_student


@pytest.fixture(scope="module")
def weights() -> Mapping[str, Tensor]:
    return build_model("resnet8", num_classes=100, stem="conv3x3", seed=3).state_dict()


class Hostile:
    """A pickle that makes a file when it is loaded."""

    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self) -> tuple[object, ...]:
        return os.system, (f"touch {self.canary}",)


def refusal(path: Path) -> str:
    with pytest.raises(TeacherError) as caught:
        read_foreign(path)
    assert caught.value.exit_code == 6
    assert "\n" not in str(caught.value)
    assert path.name in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
def test_research_checkpoint(tmp_path: Path, weights: Mapping[str, Tensor], zipped: bool) -> None:
    path = tmp_path / "best.pth"
    content = {
        "model": {f"module.{name}": tensor for name, tensor in weights.items()},
        "best_acc": np.float64(71.5),
        "opt": argparse.Namespace(lr=0.05, model="resnet8"),
    }
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    assert_fits(read_foreign(path), weights)


def assert_fits(state: Mapping[str, Tensor], weights: Mapping[str, Tensor]) -> None:
    found = fitted(state, "resnet8", "conv3x3", 100, source="a file").state_dict()
    assert found.keys() == weights.keys()
    for name, tensor in weights.items():
        assert torch.equal(found[name], tensor)


def test_safetensors(tmp_path: Path, weights: Mapping[str, Tensor]) -> None:
    write_student(tmp_path, weights, "key")
    assert_fits(read_foreign(tmp_path / "student.safetensors"), weights)


@pytest.mark.parametrize(
    "wrapped",
    ["module.{}", "_orig_mod.{}", "module._orig_mod.{}", "_orig_mod.module.{}", "model.{}", "net.module.{}"],
)
def test_names_of_wrappers_are_taken_away(weights: Mapping[str, Tensor], wrapped: str) -> None:
    state = {wrapped.format(name): tensor for name, tensor in weights.items()}
    assert_fits(state, weights)
    averaged = {**state, "n_averaged": torch.tensor(3)}
    assert_fits(averaged, weights)
    inner = {name.replace("layer1.0.", "layer1.0._orig_mod."): tensor for name, tensor in weights.items()}
    assert inner.keys() != weights.keys()
    assert_fits(inner, weights)
    with pytest.raises(TeacherError, match="2 unknown"):
        fitted({**weights, "odd": torch.ones(1), "other": torch.ones(1)}, "resnet8", "conv3x3", 100, source="a file")


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
def test_hostile_pickle(tmp_path: Path, weights: Mapping[str, Tensor], zipped: bool) -> None:
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


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"", "it is empty"),
        (b"these are no weights\n", "it is damaged, or no file of torch.save"),
        (b"\n<!DOCTYPE html><html><title>Sign in</title>", "it is a web page; download the file"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "it is a pointer of Git LFS"),
        (b'{"error": "not found"}', "it is a JSON or text file"),
        (b"\x1f\x8b\x08\0\0", "it is a compressed archive"),
        (b"\x89HDF\r\n\x1a\n", "it is an HDF5 file"),
        (b"PK\x03\x04" + bytes(100), "it is damaged, or no file of torch.save"),
        (b"\x80\x02}q\x00", "it is damaged, or no file of torch.save"),
        (bytes(600), "it is damaged, or no file of torch.save"),
    ],
)
def test_other_files_are_named_for_what_they_are(tmp_path: Path, content: bytes, what: str) -> None:
    path = tmp_path / "weights.pth"
    path.write_bytes(content)
    text = refusal(path)
    assert f"is not a safe weights file: {what}" in text
    assert "weights_only" not in text


def test_too_large_a_file_is_not_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "weights.pth"
    path.write_bytes(b"")
    os.truncate(path, 2 << 30)  # without a block on the disk
    monkeypatch.setattr(foreign, "_MOST_BYTES", 1 << 30)
    assert "it must have at most 1 GiB, but has 2.0" in refusal(path)


def test_missing_file(tmp_path: Path) -> None:
    assert "it cannot be read: No such file" in refusal(tmp_path / "none.pth")


def test_a_missing_file_is_told_before_images_are_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--arch", "resnet8", "--data", "cifar100", "--data-root", str(tmp_path / "no-images")]
    assert main(["teacher", "import", str(tmp_path / "none.pth"), *options]) == TeacherError.exit_code
    assert "none.pth must be a weights file, but there is no such file" in capsys.readouterr().err


@pytest.mark.parametrize("content", [{}, {"epoch": 3, "lr": 0.1}, [1, 2], {"model": {"a": 1}}])
def test_no_weights_inside(content: object) -> None:
    with pytest.raises(ValueError, match="it holds"):
        state_dict_of(content)


def test_other_architecture(weights: Mapping[str, Tensor]) -> None:
    with pytest.raises(TeacherError, match=r"best\.pth does not fit resnet20 .*those of resnet8") as caught:
        fitted(weights, "resnet20", "conv3x3", 100, source="best.pth")
    assert "\n" not in str(caught.value)


def test_other_class_count(weights: Mapping[str, Tensor]) -> None:
    with pytest.raises(TeacherError, match=r"best\.pth has 100 classes .* but 10 are needed") as caught:
        fitted(weights, "resnet8", "conv3x3", 10, source="best.pth")
    assert "\n" not in str(caught.value)


def test_counters_may_be_missing(weights: Mapping[str, Tensor]) -> None:
    old = {name: tensor for name, tensor in weights.items() if not name.endswith("num_batches_tracked")}
    network = fitted(old, "resnet8", "conv3x3", 100, source="best.pth")
    assert network.state_dict().keys() == weights.keys()
