"""The verbs of a sweep that really trains, in processes of this machine; its images are few and its epochs short."""

import json
import signal
import time
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path

import pytest

from icd import search
from icd.search import run_sweep
from icd.search.executors.ray.security import is_loopback, listeners
from icd.search.sweep_status import counts_of
from tests.command import Command, one_line
from tests.studies import usual
from tests.support.short_sweeps import begun, file


def test_sweep_again_extended_exported(
    command: Command, tmp_path: Path, icd_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("icd.search.session._FLUSH_S", 300.0)
    path = file(tmp_path)
    planned = json.loads(command("plan", path, "--measure", "--json").out)
    assert list(planned["paces"]) == ["resnet8>resnet8"]
    low, high = planned["cost"]["wall_hours"]
    assert 0 < low <= high
    assert not (icd_root / "study.db").exists()
    (teacher,) = json.loads(command("teacher", "list", "--json", "--root", icd_root).out)

    first = command("sweep", path, "--executor", "process", "--json")
    assert first.code == 0, first.err
    told = json.loads(first.out)
    assert (told["stopped_by"], told["counts"]["complete"], told["pending"]) == ("budget", 2, 0)
    assert [row["baseline"] for row in told["baselines"]] == ["KD"]
    assert first.err.count("complete  epoch   1  val/top1") == 2
    assert [card["digest"] for card in json.loads(command("teacher", "list", "--json", "--root", icd_root).out)] == [
        teacher["digest"]  # the one that plan trained
    ]
    trained = {item: item.stat().st_mtime_ns for item in icd_root.glob("sweeps/by-hand/trials/**/*") if item.is_file()}

    page = icd_root / "sweeps" / "by-hand" / "report.html"
    (logged,) = icd_root.glob("mlartifacts/*/*/artifacts/report.html")
    assert logged.read_bytes() == page.read_bytes()
    assert "finished: its budget is used" in page.read_text()
    assert "Gram matrix of the student before" in page.read_text()

    with monkeypatch.context() as patch:
        patch.setattr("icd.results.report.write_report", lambda root, name, output: output.mkdir())
        patch.delattr("icd.search.session._executor")  # a finished sweep needs none
        again = command("sweep", path)
    assert again.code == 0, again.err
    assert "sweep 'by-hand' is finished (stopped_by: budget): there is nothing to train" in again.err
    assert "no report was written (FileExistsError: " in again.err
    assert "finished (stopped_by: budget)" in again.out
    for hint in ("icd ui by-hand", "icd trials by-hand", "icd export by-hand -o best.yaml"):
        assert hint in again.out
    assert {item: item.stat().st_mtime_ns for item in trained} == trained

    more = command(
        "resume", "by-hand", "--executor", "process", "--extend", "--set", "search.budget.trials=3", "--json"
    )
    assert more.code == 0, more.err
    assert "found 2 done, 0 interrupted to continue, 0 lost" in more.err
    assert json.loads(more.out)["counts"]["complete"] == 3
    said = command("report", "by-hand", "--json")
    assert json.loads(said.out) == {"name": "by-hand", "path": str(page)}, said.err
    assert command("sync", "by-hand").code == 0
    assert "3 complete" in page.read_text()
    assert logged.read_bytes() == page.read_bytes()
    refused = command("sweep", path, "--executor", "process")
    assert "search.budget.trials: 3 -> 2" in one_line(refused, 5, "STATE")

    assert command("export", "by-hand", "--unconfirmed", "-o", tmp_path / "best.yaml").code == 0
    trained_again = command("train", tmp_path / "best.yaml", "--root", icd_root, "--json")
    assert trained_again.code == 0, trained_again.err
    assert "fingerprint: first 2 losses equal to 1e-06" in trained_again.err
    assert json.loads(trained_again.out)["fingerprint"]["equal"]
    best = search.status("by-hand").best
    assert best is not None
    assert json.loads(trained_again.out)["val"]["top1"] == best.values[0]


def test_a_trial_is_added_to_a_sweep_that_runs(command: Command, tmp_path: Path, icd_root: Path) -> None:
    endless = file(tmp_path, budget={"trials": 500})
    with begun("sweep", endless, "--executor", "process", "-q") as driver:
        while not (icd_root / "sweeps/by-hand/trials/0000").exists():
            assert driver.poll() is None
            time.sleep(0.05)
        words = ["by-hand", "--set", "method.cluster_weight=3", "--set", "method.warmup_epochs=1"]
        said = command("try", *words, "--from", "0", "--label", "mine", "--wait", "240", "--json")
        told = json.loads(said.out)
        assert (told["label"], told["base"], told["searched"]) == ("try mine", 0, False), said.err
        while (asked := search.trials("by-hand")[told["trial"]]).state == "running":
            assert driver.poll() is None
            time.sleep(0.1)
        driver.send_signal(signal.SIGTERM)
        assert driver.wait(240) == 143
    assert (asked.state, asked.start, asked.key) == ("complete", "try mine", told["key"])
    again = command("try", *words, "--from", "0")
    assert again.out.startswith(f"trial {asked.number}: complete, val/top1 "), again.err
    queued = command("try", "by-hand", "--set", "method.cluster_weight=5")
    assert "'icd resume by-hand' runs it" in queued.out, queued.err
    assert "asked for: 1 more by 'icd try'" in command("status", "by-hand").out


def test_too_many_failures(command: Command, tmp_path: Path, icd_root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    study = usual(icd_root)
    records = tuple(study.ledger.records())
    result = run_sweep.SweepResult(
        name="by-hand",
        folder=study.folder,
        records=records,
        best=records[1],
        stopped_by="failures",
        failed_too_often=True,
        pending=7,
        tracking="http://host",
    )
    monkeypatch.setattr(run_sweep, "run", lambda sweep, document, settings: result)
    said = command("sweep", file(tmp_path), "--json")
    assert "1 of 5 trials" in one_line(said, 4, "FAILED")
    assert "7 runs wait for MLflow: 'icd sync by-hand'" in said.err
    assert json.loads(said.out)["counts"] == counts_of(records)


def test_ui(command: Command, icd_root: Path) -> None:
    usual(icd_root)
    assert command("sync", "by-hand").code == 0
    with begun("ui", "by-hand", "--no-browser") as process:
        assert process.stdout is not None
        said = process.stdout.readline()
        assert said.startswith("MLflow: http://127.0.0.1:"), said
        assert "/experiments/" in said
        assert "workflowType=machine_learning" in said
        addresses = [said.split()[1].partition("/?")[0]]
        dashboard = process.stdout.readline()
        assert dashboard.startswith("optuna-dashboard: http://127.0.0.1:")
        addresses.append(dashboard.split()[1])
        for address in addresses:
            with urllib.request.urlopen(address, timeout=120) as answer:
                assert answer.status == 200
        sockets = listeners(process.pid)
        assert all(is_loopback(found.address) for found in sockets), sockets
        assert {found.port for found in sockets} == {urllib.parse.urlsplit(address).port for address in addresses}
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=240)
        assert process.returncode == 0
    for address in addresses:
        with pytest.raises(urllib.error.URLError):
            urllib.request.urlopen(address, timeout=5)


def test_ui_of_a_server_that_is_away(command: Command, icd_root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usual(icd_root)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://user:secret@127.0.0.1:9")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    said = command("ui", "by-hand", "--no-browser")
    assert "http://127.0.0.1:9 does not answer" in one_line(said, 3, "SETUP")
    assert "secret" not in said.err
