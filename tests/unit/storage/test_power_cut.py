"""What is written durably outlasts a power cut: the old or the new one at any moment, the new one at the end."""

from collections.abc import Callable, Iterator
from pathlib import Path
from unittest.mock import patch

import pytest
import torch

from icd.storage import durable
from icd.training import checkpoints
from tests.support.power import Disk, Left

pytestmark = pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="no /proc here")


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Callable[[], Disk]]:
    made: list[Disk] = []

    def make() -> Disk:
        made.append(Disk(tmp_path))
        return made[-1]

    yield make
    for each in made:
        each.close()


def test_a_file_is_the_old_or_the_new_one(disk: Callable[[], Disk], tmp_path: Path) -> None:
    path, moments = tmp_path / "file", list[Left]()
    path.write_bytes(b"old")
    watched = disk()
    with watched.watched(moments):
        durable.write_durably(path, b"new")
    assert {left["file"] for left in moments} == {b"old", b"new"}
    assert [left["file"] for left in watched.after_a_power_cut()] == [b"new", b"new"]


def test_the_first_of_its_name_is_there(disk: Callable[[], Disk], tmp_path: Path) -> None:
    watched, moments = disk(), list[Left]()
    with watched.watched(moments):
        durable.write_durably(tmp_path / "file", b"new")
    assert {left.get("file") for left in moments} == {None, b"new"}
    assert [left["file"] for left in watched.after_a_power_cut()] == [b"new", b"new"]


def test_a_whole_checkpoint_is_left_at_any_moment(disk: Callable[[], Disk], tmp_path: Path) -> None:
    for epoch in (1, 2, 3):
        checkpoints.save_epoch(tmp_path, epoch, {"epoch": epoch, "weights": torch.ones(3)})
    watched, moments = disk(), list[Left]()
    with watched.watched(moments):
        checkpoints.save_epoch(tmp_path, 4, {"epoch": 4, "weights": torch.ones(3)})
    for number, left in enumerate(moments):
        folder = tmp_path / f"left-{number}"
        folder.mkdir()
        for name, content in left.items():
            (folder / name).write_bytes(content)
        found = checkpoints.newest(folder)
        assert found is not None
        assert found.epoch == found.payload["epoch"] >= 3
        assert found.epoch == 4 or number < len(moments) - 2, "at the end it is the new one"


def test_a_sync_that_is_left_out_is_seen(disk: Callable[[], Disk], tmp_path: Path) -> None:
    """It can fail the tests above: without its folder's sync a file is the old one, without its own it is empty."""
    path = tmp_path / "file"
    path.write_bytes(b"old")
    watched = disk()
    with watched.watched([]), patch.object(durable, "sync"):
        durable.write_durably(path, b"new")
    assert [left["file"] for left in watched.after_a_power_cut()] == [b"old", b"new"]
    with watched.watched([]), patch("os.fsync"):
        durable.write_durably(path, b"newer")
    assert [left["file"] for left in watched.after_a_power_cut()] == [b"old", b""]
