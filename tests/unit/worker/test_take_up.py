"""A trial's metrics after a kill: in step with its newest checkpoint, nothing lost and nothing twice."""

import json
from pathlib import Path

import pytest

from icd.training import checkpoints
from icd.worker.trial_folder import take_up
from icd.worker.trial_metrics import stored_rows


def row(epoch: int) -> dict[str, float]:
    return {"epoch": epoch, "val/top1": 50.0 + epoch}


@pytest.mark.parametrize(
    ("lines", "reported", "expected"),
    [
        ([1], True, [1, 2]),  # killed between the checkpoint and its line
        ([1, 2], True, [1, 2]),  # killed after both
        ([1, 2, 3], True, [1, 2]),  # epoch 3 has no checkpoint: it is trained again
        ([1], False, [1]),  # a checkpoint between two reports has no line
    ],
)
def test_the_line_of_a_checkpoint_is_there_once(
    tmp_path: Path, lines: list[int], reported: bool, expected: list[int]
) -> None:
    (tmp_path / "checkpoints").mkdir()
    checkpoints.save_epoch(tmp_path / "checkpoints", 2, {"reported": reported, "metrics": {"val/top1": 52.0}})
    text = "".join(json.dumps(row(epoch)) + "\n" for epoch in lines)
    (tmp_path / "metrics.jsonl").write_text(text + '{"epoch": 9, "val')  # and killed in the middle of a line
    assert take_up(tmp_path).rows == [row(epoch) for epoch in expected]
    assert stored_rows(tmp_path) == [row(epoch) for epoch in expected]


def test_a_row_that_comes_too_late_replaces_nothing(tmp_path: Path) -> None:
    rows = [
        {"epoch": epoch, "time": time, "val/top1": time} for epoch, time in ((1, 1.0), (2, 9.0), (3, 10.0), (2, 5.0))
    ]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert stored_rows(tmp_path) == rows[:3]


def test_a_finished_trial_that_is_asked_for_again_stays_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "metrics.jsonl").write_text(json.dumps(row(1)) + "\n")
    (tmp_path / "result.json").touch()
    assert take_up(tmp_path).rows == stored_rows(tmp_path) == [row(1)]
