"""Checkpoints are whole or refused, whatever happened to the file."""

import logging
import os
from pathlib import Path
from typing import Any

import pytest
import torch

from icd.errors import CheckpointError, SetupError
from icd.training import checkpoints

PAYLOAD: dict[str, Any] = {
    "weights": {"a": torch.arange(12.0).reshape(3, 4), "b": torch.ones(2, dtype=torch.int64)},
    "key": "k",
    "n": 3,
}


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    path = tmp_path / "one.ckpt"
    checkpoints.save(path, PAYLOAD)
    return path


def spoil(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def test_round_trip(saved: Path) -> None:
    back = checkpoints.load(saved)
    assert back.keys() == PAYLOAD.keys()
    assert (back["key"], back["n"]) == ("k", 3)
    for name, tensor in PAYLOAD["weights"].items():
        assert back["weights"][name].dtype == tensor.dtype
        assert torch.equal(back["weights"][name], tensor)


def test_only_whoever_takes_a_folder_over_drops_what_a_kill_left_half_written(tmp_path: Path) -> None:
    left, other = tmp_path / ".epoch-000001.ckpt.4711.4711.tmp", tmp_path / ".config.yaml.4711.4711.tmp"
    left.write_bytes(b"icd-checkpoint 1 ")
    other.touch()
    checkpoints.save_epoch(tmp_path, 2, PAYLOAD)
    assert left.exists(), "another attempt may be writing it"
    checkpoints.drop_unfinished(tmp_path)
    assert sorted(tmp_path.iterdir()) == [other, tmp_path / "epoch-000002.ckpt"]


def test_same_payload_same_digest(tmp_path: Path) -> None:
    for name in ("a.ckpt", "b.ckpt"):
        checkpoints.save(tmp_path / name, PAYLOAD)
    assert (tmp_path / "a.ckpt").read_bytes() == (tmp_path / "b.ckpt").read_bytes()


def test_every_flipped_byte_is_noticed(saved: Path) -> None:
    content = saved.read_bytes()
    header = content.index(b"\n") + 1
    rest = [header + (len(content) - 1 - header) * step // 29 for step in range(30)]
    positions = [*range(0, header, header // 29), *rest]
    assert len(positions) >= 60
    for position in positions:
        for mask in (0x01, 0xFF):
            altered = bytearray(content)
            altered[position] ^= mask
            saved.write_bytes(altered)
            with pytest.raises(CheckpointError, match=saved.name):
                checkpoints.load(saved)


@pytest.mark.parametrize("share", ["none", "one", "half", "all but one"])
def test_cut_short(saved: Path, share: str) -> None:
    content = saved.read_bytes()
    length = {"none": 0, "one": 1, "half": len(content) // 2, "all but one": len(content) - 1}[share]
    saved.write_bytes(content[:length])
    with pytest.raises(CheckpointError, match="cut short"):
        checkpoints.load(saved)


def test_bytes_added_are_noticed(saved: Path) -> None:
    saved.write_bytes(saved.read_bytes() + b"\0")
    with pytest.raises(CheckpointError):
        checkpoints.load(saved)


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="No such file"):
        checkpoints.load(tmp_path / "none.ckpt")


def test_newest_of_none(tmp_path: Path) -> None:
    assert checkpoints.newest(tmp_path) is None
    assert checkpoints.newest(tmp_path / "never made") is None


def test_keeps_the_newest_two(tmp_path: Path) -> None:
    for epoch in (1, 2, 9, 10, 11):
        checkpoints.save_epoch(tmp_path, epoch, {"epoch": epoch})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["epoch-000010.ckpt", "epoch-000011.ckpt"]
    found = checkpoints.newest(tmp_path)
    assert found is not None
    assert (found.epoch, found.payload) == (11, {"epoch": 11})


def test_falls_back_with_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for epoch in (1, 2):
        checkpoints.save_epoch(tmp_path, epoch, {"epoch": epoch})
    spoil(tmp_path / "epoch-000002.ckpt")
    with caplog.at_level(logging.WARNING, logger="icd"):
        found = checkpoints.newest(tmp_path)
    assert found is not None
    assert (found.epoch, found.payload) == (1, {"epoch": 1})
    assert "epoch-000002.ckpt" in caplog.text
    assert "the one before" in caplog.text


def test_all_damaged(tmp_path: Path) -> None:
    for epoch in (1, 2):
        checkpoints.save_epoch(tmp_path, epoch, {"epoch": epoch})
        spoil(tmp_path / f"epoch-{epoch:06d}.ckpt")
    with pytest.raises(CheckpointError, match="no valid checkpoint") as caught:
        checkpoints.newest(tmp_path)
    assert "epoch-000001.ckpt" in str(caught.value)
    assert "epoch-000002.ckpt" in str(caught.value)


def test_full_disk_leaves_the_old_file(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = saved.read_bytes()

    def full(handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(SetupError, match="No space left on device"):
        checkpoints.save(saved, {"other": 1})
    assert [path.name for path in saved.parent.iterdir()] == [saved.name]
    assert saved.read_bytes() == before


def test_no_folder(tmp_path: Path) -> None:
    with pytest.raises(SetupError, match="cannot be written"):
        checkpoints.save(tmp_path / "none" / "one.ckpt", PAYLOAD)
