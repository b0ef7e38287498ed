"""A sweep over two pairs goes on within a pair when its driver or its worker ends."""

import os
import shutil
import signal
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from icd.search.study.sweep_study import LIST_NUMBERS
from tests.confirming import outcome
from tests.crash import harness as bare
from tests.crash.served import Harness, Hold, records
from tests.support.two_pairs import ASKED, BOTH, EPOCHS, held


def values(root: Path) -> list[Any]:
    return [(dict(record.members), record.rank) for record in records(root)]


@pytest.mark.parametrize("victim", ["driver", "worker"])
def test_a_kill_in_the_second_run_changes_nothing(
    harness: Harness, undisturbed_pairs: Path, tmp_path: Path, victim: str
) -> None:
    root = harness.root(tmp_path / "root")
    hold = Hold(root, 1, EPOCHS + 3)
    drive = harness.drive(root, changes=BOTH)
    first = drive.folder / "trials" / "0001"
    with hold.reached(drive):
        kept = (first / "small" / "student.safetensors").stat().st_mtime_ns
        (worker,) = drive.workers
        os.kill(drive.pid if victim == "driver" else worker, signal.SIGKILL)
    if victim == "driver":
        assert drive.wait() == -signal.SIGKILL
        drive = harness.drive(root, changes=BOTH)
    assert drive.wait() == 0, drive.said
    if victim == "worker":
        assert "retry 1/3 from epoch" in drive.said
    assert bare.table(root) == bare.table(undisturbed_pairs)
    assert values(root) == values(undisturbed_pairs)
    assert (first / "small" / "student.safetensors").stat().st_mtime_ns == kept  # a finished run is not trained again
    with sqlite3.connect(root / "mlflow.db") as database:
        twice = "select key from metrics group by run_uuid, key, step having count(*) > 1"
        assert database.execute(twice).fetchall() == []
        assert database.execute("select count(*) from runs where status = 'RUNNING'").fetchone() == (0,)


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_a_confirmation_goes_on_within_a_pair(
    harness: Harness, undisturbed_pairs: Path, confirmed_pairs: Path, tmp_path: Path, how: signal.Signals
) -> None:
    root = Path(shutil.copytree(undisturbed_pairs, tmp_path / "root"))
    hold = Hold(root, LIST_NUMBERS + 1, EPOCHS + 2)
    drive = harness.drive(root, changes=BOTH, confirm=ASKED)
    with hold.reached(drive):
        (drive.signal if how == signal.SIGKILL else drive.interrupt)(how)
    assert drive.wait() == (-how if how == signal.SIGKILL else 128 + how)
    assert not held(root).finished
    assert harness.drive(root, changes=BOTH, confirm={}).wait() == 0, harness.errors
    assert bare.table(root, "confirm") == bare.table(confirmed_pairs, "confirm")
    assert outcome(held(root)) == outcome(held(confirmed_pairs))
