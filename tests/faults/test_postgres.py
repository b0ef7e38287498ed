"""Study and tracking in a real PostgreSQL that is restarted in the middle, without mercy."""

import socket
from pathlib import Path

import pytest

from icd.search.study import sweep_index
from tests.crash.served import Harness, Hold
from tests.support.postgres import Postgres
from tests.tiny import unpruned

EPOCHS, TRIALS = 100, 4
CHANGES = unpruned(EPOCHS, TRIALS)


@pytest.fixture
def harness(postgres: Postgres) -> Harness:
    """Drivers whose study and tracking are in PostgreSQL; the teacher was trained with sqlite."""
    return Harness(ICD_STORAGE_URL=postgres.url("study"), MLFLOW_TRACKING_URI=postgres.url("tracking"))


def test_two_restarts_in_mid_sweep_lose_nothing(
    postgres: Postgres, harness: Harness, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ICD_STORAGE_URL", postgres.url("study"))
    root = harness.root(tmp_path / "root")
    elsewhere = harness.root(tmp_path / "elsewhere")
    (elsewhere / "sweeps" / "crash").mkdir(parents=True)  # or it would be refused for its files
    hold = Hold(root, TRIALS - 1, EPOCHS)
    drive = harness.drive(root, changes=CHANGES)
    for number in (0, 2):
        drive.until_epoch(number, 4)
        postgres.restart()
    with hold.reached(drive):  # seconds after a restart it has its lock again
        second = harness.drive(elsewhere, changes=CHANGES)
        assert second.wait() == 5, second.errors
    assert f"STATE: sweep 'crash' is driven by pid {drive.pid} on {socket.gethostname()} since " in drive.errors
    assert drive.wait() == 0, drive.errors
    found = sweep_index.find(root, "crash").records()
    assert [record.state for record in found] == ["complete"] * TRIALS
    assert [record.attempts for record in found] == [1] * TRIALS, "no trial noticed"
    assert [list(record.curve) for record in found] == [list(range(1, EPOCHS + 1))] * TRIALS
    rows = postgres.select(
        "tracking", "select run_uuid, step, count(*) from metrics where key = 'val/top1' group by 1, 2"
    )
    assert len(rows) == TRIALS * EPOCHS
    twice = "select run_uuid, key, step from metrics group by 1, 2, 3 having count(*) > 1"
    assert postgres.select("tracking", twice) == []
    states = postgres.select(
        "tracking", "select status, count(*) from runs where lifecycle_stage = 'active' group by 1"
    )
    assert states == [("FINISHED", TRIALS + 1)]
    assert len(list(root.glob("mlartifacts/*/*/artifacts/metrics.jsonl"))) == TRIALS
    warnings = [line for line in drive.said.splitlines() if "does not answer" in line]
    assert len(warnings) <= 2, "one for each restart at most"
    unreachable = [line for line in drive.said.splitlines() if line.startswith("tracking unreachable")]
    assert len(unreachable) <= 2, "one for each restart at most"
    others = [line for line in drive.said.splitlines() if line not in [*warnings, *unreachable]]
    complaints = [line for line in others if "failed" in line or "retry" in line]
    assert complaints == []
    for text in (drive.said, drive.errors):
        assert "Traceback" not in text
        assert "verysecret" not in text
