"""The outbox keeps every event once, through kills in mid-write, full disks and resumes."""

import errno
import json
import os
from pathlib import Path
from typing import Any

import pytest

from icd.errors import SetupError
from icd.search.tracking.outbox import OUTBOX_NAME, Outbox, events
from icd.search.tracking.outbox_cursor import OFFSET_NAME, REFUSED_NAME, OutboxCursor


def fill(outbox: Outbox, epochs: int = 3) -> None:
    outbox.sweep(time_ms=1, name="a", params={}, tags={}, note="Which?", artifacts=[])
    outbox.trial(0, time_ms=2, name="0000", params={"w_1": "0.5"}, tags={"method": "iCD"})
    for epoch in range(1, epochs + 1):
        outbox.epoch(0, epoch, time_ms=10 + epoch, metrics={"val/top1": 50.0 + epoch})
    outbox.end(0, time_ms=99, state="complete", metrics={}, tags={}, artifacts=["trials/0000/a.png"])
    outbox.summary(1, time_ms=100, metrics={"best": 1.0}, tags={}, artifacts=[], finished=True)


def lines(folder: Path) -> list[dict[str, Any]]:
    return list(events(folder / OUTBOX_NAME))


def test_events_are_kept_in_order_with_their_times(tmp_path: Path) -> None:
    fill(Outbox(tmp_path))
    assert [event["kind"] for event in lines(tmp_path)] == ["sweep", "trial", *3 * ["epoch"], "end", "summary"]
    assert [event["ms"] for event in lines(tmp_path)] == [1, 2, 11, 12, 13, 99, 100]


@pytest.mark.parametrize("reopen", [False, True])
def test_saying_everything_again_adds_nothing(tmp_path: Path, reopen: bool) -> None:
    outbox = Outbox(tmp_path)
    fill(outbox)
    before = (tmp_path / OUTBOX_NAME).read_bytes()
    outbox = Outbox(tmp_path) if reopen else outbox
    fill(outbox)
    outbox.end(0, time_ms=500, state="failed", metrics={}, tags={}, artifacts=[])
    assert (tmp_path / OUTBOX_NAME).read_bytes() == before
    assert outbox.has_trial(0)
    assert outbox.has_epoch(0, 3)
    assert outbox.has_end(0)
    assert [outbox.has_trial(1), outbox.has_epoch(0, 4), outbox.has_epoch(1, 1), outbox.has_end(1)] == 4 * [False]
    outbox.epoch(0, 4, time_ms=600, metrics={"val/top1": 1.0})
    assert lines(tmp_path)[-1]["epoch"] == 4


def test_every_cut_of_the_file_can_be_continued(tmp_path: Path) -> None:
    fill(Outbox(tmp_path))
    path = tmp_path / OUTBOX_NAME
    whole = path.read_bytes()
    for length in range(len(whole) + 1):
        path.write_bytes(whole[:length])
        outbox = Outbox(tmp_path)
        fill(outbox)
        outbox.close()
        assert path.read_bytes() == whole


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_a_metric_that_is_not_finite_is_refused(tmp_path: Path, value: float) -> None:
    outbox = Outbox(tmp_path)
    with pytest.raises(ValueError, match=r"must be finite, but got .* for 'val/top1'"):
        outbox.epoch(0, 1, time_ms=1, metrics={"val/top1": value})
    assert (tmp_path / OUTBOX_NAME).read_bytes() == b""
    assert not outbox.has_epoch(0, 1)


@pytest.mark.parametrize("name", ["acc@1", "w[1]", "a=1", "", "x" * 251, "../a", "/a", "a//b", "a\n"])
def test_a_name_that_mlflow_refuses_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match="names of metrics"):
        Outbox(tmp_path).epoch(0, 1, time_ms=1, metrics={name: 1.0})


@pytest.mark.parametrize("path", ["/etc/passwd", "../other/file", "a/../../b"])
def test_files_outside_the_sweep_are_refused(tmp_path: Path, path: str) -> None:
    with pytest.raises(ValueError, match="below the sweep's folder"):
        Outbox(tmp_path).end(0, time_ms=1, state="complete", metrics={}, tags={}, artifacts=[path])


@pytest.mark.parametrize("epoch", [-1, 1_000_000])
def test_epochs_have_bounds(tmp_path: Path, epoch: int) -> None:
    with pytest.raises(ValueError, match="epoch must be between"):
        Outbox(tmp_path).epoch(0, epoch, time_ms=1, metrics={"a": 1.0})


@pytest.mark.parametrize("call", ["write", "fsync"])
def test_a_full_disk_leaves_whole_lines_and_can_be_continued(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    outbox = Outbox(tmp_path)
    outbox.trial(0, time_ms=1, name="0000", params={}, tags={})
    write, calls = os.write, []

    def fail_after_a_part(file: int, *data: bytes) -> int:
        calls.append(data)
        if call == "write" and len(calls) == 1:
            return write(file, data[0][:5])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, call, fail_after_a_part)
        with pytest.raises(SetupError, match=rf"{OUTBOX_NAME} cannot be written: No space left"):
            outbox.epoch(0, 1, time_ms=2, metrics={"a": 1.0})
    assert [event["kind"] for event in lines(tmp_path)] == ["trial"]
    assert (tmp_path / OUTBOX_NAME).read_bytes().endswith(b"\n")
    outbox.epoch(0, 1, time_ms=3, metrics={"a": 1.0})
    assert [(event["kind"], event["ms"]) for event in lines(tmp_path)] == [("trial", 1), ("epoch", 3)]


def test_closing_twice_closes_no_other_file(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path)
    outbox.close()
    with (tmp_path / "other").open("wb") as other:  # it has the number that the outbox had
        outbox.close()
        other.write(b"all of it")
    assert (tmp_path / "other").read_bytes() == b"all of it"
    with pytest.raises(SetupError, match="cannot be written"):
        outbox.trial(0, time_ms=1, name="0000", params={}, tags={})


def test_a_folder_that_is_missing_is_said(tmp_path: Path) -> None:
    with pytest.raises(SetupError, match="cannot be opened: No such file"):
        Outbox(tmp_path / "none")


def test_a_reader_gives_each_event_until_it_is_committed(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path)
    reader = OutboxCursor(tmp_path, "a")
    assert reader.read() == []
    fill(outbox)
    found = []
    while batch := reader.read(most_bytes=150):
        assert OutboxCursor(tmp_path, "a").read(most_bytes=150) == batch  # not committed: again
        reader.commit()
        found += batch
        assert reader.pending() == 7 - len(found)
    assert found == lines(tmp_path)
    assert OutboxCursor(tmp_path, "a").read() == []


def test_a_reader_goes_no_further_than_it_may(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path)
    fill(outbox)
    ends = [place + 1 for place, byte in enumerate((tmp_path / OUTBOX_NAME).read_bytes()) if byte == ord("\n")]
    limit = [0]
    reader = OutboxCursor(tmp_path, "a", lambda: limit[0])
    assert reader.read() == []
    limit[0] = ends[2]
    assert reader.read(most_bytes=10) == lines(tmp_path)[:1]
    assert reader.read() == lines(tmp_path)[:3]
    reader.commit()
    assert reader.read() == []
    assert reader.pending() == 4
    limit[0] = ends[-1]
    assert reader.read() == lines(tmp_path)[3:]


def test_another_target_starts_over(tmp_path: Path) -> None:
    fill(Outbox(tmp_path))
    reader = OutboxCursor(tmp_path, "a")
    reader.read()
    reader.commit()
    assert len(OutboxCursor(tmp_path, "b").read()) == 7


@pytest.mark.parametrize("offset", [-5, 3, 10**9, "x", None])
def test_an_offset_that_fits_no_line_starts_over(tmp_path: Path, offset: object) -> None:
    fill(Outbox(tmp_path))
    reader = OutboxCursor(tmp_path, "a")
    reader.read()
    reader.commit()
    stored = json.loads((tmp_path / OFFSET_NAME).read_text())
    (tmp_path / OFFSET_NAME).write_text(json.dumps({**stored, "offset": offset}))
    assert len(OutboxCursor(tmp_path, "a").read()) == 7


def test_a_damaged_line_is_set_aside(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path)
    fill(outbox)
    path = tmp_path / OUTBOX_NAME
    path.write_bytes(path.read_bytes().replace(b'"epoch":2', b'"ep\xffch":2'))
    assert len(OutboxCursor(tmp_path, "a").read()) == 6
    assert "damaged" in (tmp_path / REFUSED_NAME).read_text()
    assert not Outbox(tmp_path).has_epoch(0, 2)
