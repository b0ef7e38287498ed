"""The finished student: any tool opens it, and nothing that was altered is taken for it."""

from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from icd.errors import CheckpointError
from icd.training import STUDENT
from icd.training.student_file import read_student, write_student

WEIGHTS: Mapping[str, Tensor] = {
    "conv": torch.randn(4, 3, 3, 3).to(memory_format=torch.channels_last),
    "count": torch.tensor(7),
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    assert write_student(tmp_path, WEIGHTS, "key") == sha256((tmp_path / STUDENT).read_bytes()).hexdigest()
    return tmp_path


def test_it_is_read_back_here_and_elsewhere(folder: Path) -> None:
    for found in (read_student(folder, "key"), load_file(folder / STUDENT)):
        assert found.keys() == WEIGHTS.keys()
        assert all(torch.equal(found[name], tensor) for name, tensor in WEIGHTS.items())


def test_equal_weights_give_equal_bytes(tmp_path: Path) -> None:
    assert len({write_student(tmp_path, WEIGHTS, "key") for _ in range(20)}) == 1


def test_what_is_damaged_or_another_s_is_refused(folder: Path) -> None:
    path = folder / STUDENT
    whole = path.read_bytes()
    with pytest.raises(CheckpointError, match="another configuration"):
        read_student(folder, "other")
    for content, reason in ((whole[:-1] + bytes([whole[-1] ^ 1]), "SHA-256"), (whole[:-1], "cut short"), (b"", "cut")):
        path.write_bytes(content)
        with pytest.raises(CheckpointError, match=reason):
            read_student(folder, "key")
    path.unlink()
    with pytest.raises(CheckpointError, match="cannot be read"):
        read_student(folder, "key")
