"""A real sweep whose trials are paused and taken up again, killed while one is paused, and its states to a reader."""

import json
from pathlib import Path

import pytest

from tests.command import Command
from tests.crash.harness import PROMOTE, repeated_epochs, table
from tests.crash.served import Harness, records


@pytest.mark.timeout(300)
def test_a_paused_trial_survives_a_kill_and_goes_on(tmp_path: Path, command: Command) -> None:
    harness = Harness()
    whole, root = harness.root(tmp_path / "whole"), harness.root(tmp_path / "cut")
    assert harness.drive(whole, changes=PROMOTE).wait() == 0
    expected = table(whole)
    assert "paused_at" in expected[0]
    assert {row["state"] for row in expected if row["paused_at"]} == {"complete", "pruned"}, "one thawed, one not"

    drive = harness.drive(root, changes=PROMOTE)
    drive.until_epoch(1, 1)  # from then on there is a study to look into
    drive.until(lambda: any(record.state == "paused" for record in records(root)))
    drive.signal()
    drive.wait()
    paused = [record for record in records(root) if record.state == "paused"]
    told = json.loads(command("status", "crash", "--root", root, "--json").out)
    assert told["counts"]["paused"] == len(paused) > 0
    shown = json.loads(command("trials", "crash", "--root", root, "--state", "paused", "--json").out)
    assert [(row["number"], row["epochs"], row["values"]) for row in shown] == [(r.number, 1, {}) for r in paused]
    assert f"trial {paused[0].number}: paused" in command("show", "crash", paused[0].number, "--root", root).out

    again = harness.drive(root, changes=PROMOTE)
    assert again.wait() == 0
    assert table(root) == expected
    assert sum(repeated_epochs(root).values()) <= 1
