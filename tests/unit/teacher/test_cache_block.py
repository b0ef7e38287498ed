"""A block of a teacher cache: whole entries or none, many processes, nothing used that was not checked."""

import errno
import fcntl
import multiprocessing
import os
import re
import signal
import time
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
from torch import Tensor

from icd.errors import CheckpointError, SetupError
from icd.teacher.cache import TeacherCache
from icd.teacher.cache_block import Block, BlockSpec, block_folder, read_spec
from icd.teacher.cache_plan import CachePlan

SPEC = BlockSpec(
    teacher="t" * 64,
    data="d",
    views="v",
    num_images=50,
    num_views=6,
    num_classes=7,
    side=4,
    from_map=False,
    own_logits=False,
)


def slots_of(*places: int) -> np.ndarray:
    return np.array(places, dtype=np.int64)


def entries(slots: np.ndarray, spec: BlockSpec = SPEC) -> tuple[Tensor, Tensor]:
    """Something to store that can be told from its slot."""
    generator = torch.Generator().manual_seed(int(slots[0]))
    rows = torch.randn(len(slots), spec.num_rows, spec.num_classes, generator=generator)
    rows += torch.from_numpy(slots)[:, None, None]
    return rows, torch.rand(len(slots), spec.num_verdicts, generator=generator) > 0.5


def filled(folder: Path, slots: np.ndarray) -> Block:
    block = Block(folder / "b", SPEC)
    block.write(slots, *entries(slots))
    return block


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def test_sizes() -> None:
    assert (SPEC.num_rows, SPEC.scales, SPEC.num_verdicts) == (16, (1, 2, 4), 1 + 21)
    assert SPEC.entry_bytes == 16 * 7 * 2 + 3
    assert replace(SPEC, own_logits=True).num_rows == 17
    assert replace(SPEC, from_map=True, side=3).scales == (3,)
    cifar = replace(SPEC, num_images=50_000, num_views=162, num_classes=100)
    assert cifar.num_bytes / 1e9 == pytest.approx(25.97, abs=0.01)  # with its checksums; speed.md: 25.9
    stream = replace(cifar, sequence=(0, 240))
    assert stream.num_slots == 240 * 50_000


def test_what_is_written_is_read(tmp_path: Path) -> None:
    slots = slots_of(3, 250, 17)
    block = filled(tmp_path, slots)
    rows, verdicts = entries(slots)
    got_rows, got_verdicts = block.read(slots)
    assert torch.equal(got_rows, rows.half())
    assert torch.equal(got_verdicts, verdicts)
    assert block.filled() == 3
    assert block.missing(slots_of(3, 4)).tolist() == [False, True]
    block.close()
    again = Block(tmp_path / "b", SPEC)
    assert torch.equal(again.read(slots)[0], got_rows)
    again.close()


def test_entries_are_written_in_the_order_of_the_disk_and_neighbours_in_one_go(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    slots, writes, pwrite = slots_of(17, 250, 3, 18, 251, 16), list[tuple[int, int]](), os.pwrite

    def noted(file: int, content: Any, offset: int) -> int:
        writes.append((offset // SPEC.entry_bytes, len(content)))
        return pwrite(file, content, offset)

    monkeypatch.setattr(os, "pwrite", noted)
    block = filled(tmp_path, slots)
    assert writes == [(3, 1), (16, 3), (250, 2)]
    assert torch.equal(block.read(slots)[0], entries(slots)[0].half())
    monkeypatch.setattr(os, "pwrite", lambda file, content, offset: content.nbytes - 1)
    with pytest.raises(SetupError, match=r"entries\.bin cannot be written: No space left on device"):
        block.write(slots_of(40), *entries(slots_of(40)))
    assert block.missing(slots_of(40)).tolist() == [True]
    block.close()


def test_slots_of_cache_and_stream() -> None:
    indices, views = slots_of(4, 9), slots_of(5, 0)
    assert SPEC.slots(3, indices, views).tolist() == [29, 54]
    assert SPEC.image_of(slots_of(29, 54)).tolist() == [4, 9]
    stream = replace(SPEC, sequence=(0, 8))
    assert stream.slots(3, indices, views).tolist() == [104, 109]
    assert stream.image_of(slots_of(104, 109)).tolist() == [4, 9]


def test_a_missing_entry_is_not_read(tmp_path: Path) -> None:
    block = filled(tmp_path, slots_of(3))
    with pytest.raises(CheckpointError, match="entry 4 is missing or fails"):
        block.read(slots_of(3, 4))
    block.close()


@pytest.mark.parametrize("lost", [False, True])  # a bit that fell; all of an entry whose checksum a power cut kept
def test_a_damaged_entry_is_found_counts_as_missing_and_can_be_written_again(
    tmp_path: Path, lost: bool, caplog: pytest.LogCaptureFixture
) -> None:
    slots = slots_of(3, 4, 5)
    filled(tmp_path, slots).close()
    path = tmp_path / "b" / "entries.bin"
    content = bytearray(path.read_bytes())
    entry = slice(4 * SPEC.entry_bytes, 5 * SPEC.entry_bytes)
    content[entry] = bytes(SPEC.entry_bytes) if lost else bytes([content[entry.start] ^ 1]) + content[entry][1:]
    path.write_bytes(content)
    block = Block(tmp_path / "b", SPEC)
    for _ in range(2):
        assert block.missing(slots).tolist() == [False, True, False]
    assert caplog.text.count("fail their checksums, and the teacher computes them again") == 1
    assert len(block.read(slots_of(3, 5))[0]) == 2
    with pytest.raises(CheckpointError, match="entry 4 is missing or fails its checksum"):
        block.read(slots)
    assert (block.damaged(), block.filled()) == (1, 3)
    block.write(slots, *entries(slots))
    assert torch.equal(block.read(slots)[0], entries(slots)[0].half())
    assert block.damaged() == 0
    block.close()


def test_a_repair_drops_damaged_entries(tmp_path: Path) -> None:
    block = filled(tmp_path, slots_of(3, 4, 5))
    block._checks_S[4] ^= 1
    assert (block.damaged(repair=True), block.damaged(), block.filled()) == (1, 0, 2)
    block.close()


def test_a_block_is_made_where_the_disk_cannot_allocate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on NFS 4.1: the C library writes zeros instead, but not to a file that is open for appending."""
    allocate = os.posix_fallocate

    def emulated(file: int, offset: int, length: int) -> None:
        if fcntl.fcntl(file, fcntl.F_GETFL) & os.O_APPEND:
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))
        allocate(file, offset, length)

    monkeypatch.setattr(os, "posix_fallocate", emulated)
    block = filled(tmp_path, slots_of(3))
    assert block.filled() == 1
    block.close()


def test_another_cache_in_its_place_is_refused(tmp_path: Path) -> None:
    filled(tmp_path, slots_of(3)).close()
    with pytest.raises(CheckpointError, match="holds another teacher cache"):
        Block(tmp_path / "b", replace(SPEC, teacher="u" * 64))
    os.truncate(tmp_path / "b" / "entries.bin", 1000)
    with pytest.raises(CheckpointError, match="is incomplete; drop the cache: mmap length is greater"):
        Block(tmp_path / "b", SPEC)


def test_the_folder_is_named_by_all_that_matters(tmp_path: Path) -> None:
    changes: list[dict[str, Any]] = [
        {"teacher": "u"},
        {"data": "e"},
        {"views": "w"},
        {"num_images": 51},
        {"side": 2},
        {"from_map": True},
        {"own_logits": True},
        {"sequence": (0, 4)},
        {"sequence": (1, 4)},
    ]
    names = {block_folder(tmp_path, replace(SPEC, **change)) for change in [{}, *changes]}
    assert len(names) == len(changes) + 1


@pytest.mark.parametrize("text", ["", "{}", "[1]", '{"version": 1}', '{"version": 2, "teacher": "t"}'])
def test_a_header_that_is_none_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "block.json").write_text(text)
    again = f"drop it: icd teacher cache rm {tmp_path.name}"
    with pytest.raises(CheckpointError, match=rf"holds no teacher cache of version 2 .*; {re.escape(again)}"):
        read_spec(tmp_path)


def test_a_header_is_read_back(tmp_path: Path) -> None:
    for name, spec in (("a", SPEC), ("b", replace(SPEC, sequence=(3, 9)))):
        Block(tmp_path / name, spec).close()
        assert read_spec(tmp_path / name) == spec


def test_logits_beyond_float16_are_refused(tmp_path: Path) -> None:
    block = Block(tmp_path / "b", SPEC)
    rows, verdicts = entries(slots_of(1))
    with pytest.raises(CheckpointError, match="do not fit float16"):
        block.write(slots_of(1), rows + 1e6, verdicts)
    assert block.filled() == 0
    block.close()


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(SetupError, match="cannot be made"):
        Block(tmp_path / "file" / "b", SPEC)


@pytest.mark.parametrize("lost", ["entries.bin", "checks.bin", "claims"])
def test_a_cache_that_is_incomplete_or_another_s_is_refused_and_nothing_stays_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lost: str
) -> None:
    filled(tmp_path, slots_of(3)).close()
    before, content = open_files(), (tmp_path / "b" / lost).read_bytes()
    (tmp_path / "b" / lost).unlink()
    with pytest.raises(CheckpointError, match=f"is incomplete; drop the cache: .*{lost}"):
        Block(tmp_path / "b", SPEC)
    (tmp_path / "b" / lost).write_bytes(content)

    def denied(self: Path) -> str:
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(Path, "read_text", denied)
    with pytest.raises(SetupError, match="b cannot be made or opened: Permission denied"):
        Block(tmp_path / "b", SPEC)
    assert open_files() == before


def test_where_one_block_cannot_be_opened_the_others_are_closed(tmp_path: Path) -> None:
    specs = sorted((SPEC, replace(SPEC, side=2)), key=BlockSpec.digest)
    folder = block_folder(tmp_path, specs[1])
    Block(folder, specs[1]).close()
    (folder / "claims").unlink()
    before, plan = open_files(), CachePlan(mode="full", specs=tuple(specs), reason="")
    with pytest.raises(CheckpointError, match="is incomplete"):
        TeacherCache(tmp_path, plan, cast("Any", None), cast("Any", None))
    assert open_files() == before


def _claimer(folder: Path, slots: list[int], pause: float, said: Any) -> None:
    block = Block(folder, SPEC)
    with block.claim(slots_of(*slots)):
        said.put(("in", slots, time.monotonic()))
        time.sleep(pause)
        said.put(("out", slots, time.monotonic()))


def test_one_writer_an_image_at_a_time(tmp_path: Path) -> None:
    Block(tmp_path / "b", SPEC).close()
    context = multiprocessing.get_context("fork")
    said = context.Queue()
    sets = [[0, 6, 12], [12, 6], [60]]  # images 0 1 2; 2 1; 10
    workers = [context.Process(target=_claimer, args=(tmp_path / "b", slots, 0.5, said)) for slots in sets]
    for worker in workers:
        worker.start()
    events = sorted((said.get(timeout=60) for _ in range(6)), key=lambda event: event[2])
    for worker in workers:
        worker.join()
    shared = [kind for kind, slots, _ in events if slots != [60]]
    assert shared == ["in", "out", "in", "out"]


def test_a_killed_writer_frees_its_images_and_leaves_nothing_half(tmp_path: Path) -> None:
    Block(tmp_path / "b", SPEC).close()
    context = multiprocessing.get_context("fork")
    said = context.Queue()
    worker = context.Process(target=_claimer, args=(tmp_path / "b", [0, 6], 600.0, said))
    worker.start()
    assert said.get(timeout=60)[0] == "in"
    assert worker.pid is not None
    os.kill(worker.pid, signal.SIGKILL)
    worker.join()
    block = Block(tmp_path / "b", SPEC)
    with block.claim(slots_of(0, 6)):
        assert block.missing(slots_of(0, 6)).all()
    block.close()


def test_what_one_process_writes_another_sees_at_once(tmp_path: Path) -> None:
    reader = Block(tmp_path / "b", SPEC)
    slots = slots_of(8, 9)
    assert reader.missing(slots).all()
    context = multiprocessing.get_context("fork")
    worker = context.Process(target=lambda: filled(tmp_path, slots).close())
    worker.start()
    worker.join()
    assert not reader.missing(slots).any()
    assert torch.equal(reader.read(slots)[1], entries(slots)[1])
    reader.close()
