"""The signals that end ``icd sweep``, the one that nohup makes it ignore, and a baseline that failed."""

import json
import signal
from pathlib import Path

import pytest

from icd import search
from icd.search.study.sweep_files import SweepFiles
from tests.command import Command, one_line
from tests.support.short_sweeps import begun, file, signal_when

pytestmark = pytest.mark.timeout(900)

DRIVEN = "sweeps/by-hand/driver.lock"


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGHUP, 129)], ids=["term", "hup"])
def test_interrupted(tmp_path: Path, icd_root: Path, number: int, code: int) -> None:
    with begun("sweep", file(tmp_path), "--executor", "process") as process:
        signal_when(icd_root, DRIVEN, process, number)
        out, err = process.communicate(timeout=240)
    assert process.returncode == code, err
    assert out == ""
    errors = [line.partition("]")[0] for line in err.splitlines() if line.startswith("icd: error[")]
    assert errors == ["icd: error[INTERRUPTED"], err


def test_what_nohup_makes_it_ignore_stays_ignored(command: Command, tmp_path: Path, icd_root: Path) -> None:
    with begun("sweep", file(tmp_path), "--executor", "process", before=("nohup",)) as process:
        signal_when(icd_root, DRIVEN, process, signal.SIGHUP)
        _, err = process.communicate(timeout=240)
    assert process.returncode == 0, err
    status = json.loads(command("status", "by-hand", "--json").out)
    assert (status["state"], status["counts"]["complete"]) == ("finished", 2)


def test_interrupted_and_resumed(command: Command, tmp_path: Path, icd_root: Path) -> None:
    path = file(tmp_path, training={"epochs": 120, "batch_size": 50})
    with begun("sweep", path, "--executor", "process") as process:
        signal_when(icd_root, "sweeps/by-hand/trials/*/checkpoints/epoch-*", process, signal.SIGINT)
        out, err = process.communicate(timeout=240)
    assert process.returncode == 130, err
    assert out == ""
    errors = [line.partition("]")[0] for line in err.splitlines() if line.startswith("icd: error[")]
    assert errors == ["icd: error[INTERRUPTED"], err
    status = json.loads(command("status", "by-hand", "--json").out)
    assert (status["state"], status["stopped_by"], status["counts"]["interrupted"]) == ("stopped", "signal", 1)
    resumed = command("resume", "by-hand", "--executor", "process", "--set", "resources.retries=1")
    assert resumed.code == 0, resumed.err
    assert "found 0 done, 1 interrupted to continue, 0 lost" in resumed.err
    assert [record.attempts for record in search.trials("by-hand")] == [2, 1]


@pytest.mark.usefixtures("icd_root")
def test_a_baseline_that_failed_is_trained_once_its_cause_is_mended(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    issue = SweepFiles.issue

    def spoiled(files: SweepFiles, number: int, attempt: int) -> Path | None:
        aside = issue(files, number, attempt)
        (files.folder / "trials" / "0000" / "config.yaml").write_text("student: resnet14\n")  # of something else
        return aside

    words = ["--executor", "process", "--set", "resources.retries=0"]
    with monkeypatch.context() as patch:
        patch.setattr(SweepFiles, "issue", spoiled)
        failed = command("sweep", file(tmp_path), *words)
    assert "'icd resume by-hand --retry-failed'" in one_line(failed, 4, "FAILED")
    said = command("resume", "by-hand", "--retry-failed", "--json", *words)
    assert said.code == 0, said.err
    assert "failed trials are trained again as 2" in said.err
    told = json.loads(said.out)
    assert {state: count for state, count in told["counts"].items() if count} == {"complete": 2, "retried": 1}
    assert [(row["baseline"], row["state"]) for row in told["baselines"]] == [("KD", "retried"), ("KD", "complete")]
    assert search.status("by-hand").used["trials"] == 2
    assert "no failed trial to train again" in command("resume", "by-hand", "--retry-failed", *words).err
