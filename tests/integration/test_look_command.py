"""``icd show | logs | rm`` on studies built by hand; nothing is trained here."""

import json
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
import yaml

from icd import search
from icd.errors import SetupError, StateError
from icd.search.removal import parts_of, remove
from icd.search.study.database import open_storage, storage_url
from icd.search.study.locks import driver_lock
from icd.search.study.sweep_files import SweepFiles
from icd.search.study.sweep_study import LIST_NUMBERS
from tests.command import Command, one_line
from tests.confirming import confirming, level, searched
from tests.studies import Study, usual
from tests.tracking import free_port


def test_one_trial_is_shown_whole(command: Command, study: Study) -> None:
    said = command("show", "by-hand", 1)
    assert said.code == 0, said.err
    (row,) = json.loads(command("trials", "by-hand", "--top", 1, "--json").out)
    weight = row["params"]["method.cluster_weight"]
    lines = said.out.splitlines()
    assert lines[0] == "trial 1: complete, val/top1 50"
    assert f"  method.cluster_weight: {weight:.4g}" in lines
    assert "curve: 1: 20  2: 30  3: 40  4: 50" in lines
    assert f"key: {row['key']}" in lines
    assert "student:" in lines, "its configuration, as 'icd train' takes it"
    told = json.loads(command("show", "by-hand", 1, "--json").out)
    assert {name: told[name] for name in row} == row
    assert told["config"]["method"]["cluster_weight"] == pytest.approx(weight)
    assert Path(told["folder"]) == study.folder / "trials" / "0001"


@pytest.mark.usefixtures("study")
def test_a_trial_without_files_is_shown_by_what_the_study_knows(command: Command) -> None:
    said = command("show", "by-hand", 3)
    assert said.out.splitlines()[:2] == ["trial 3: failed", "  out of memory"]
    assert json.loads(command("show", "by-hand", 3, "--json").out)["config"] is None
    assert "trial 0: complete, val/top1 40 (KD)" in command("show", "by-hand", 0).out
    assert "has no trial 99; see 'icd trials by-hand'" in one_line(command("show", "by-hand", 99), 5, "STATE")


@pytest.mark.usefixtures("study")
def test_files_of_a_trial_come_here_where_the_root_is_a_bucket(
    command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[dict[int, int]] = []
    monkeypatch.setattr(SweepFiles, "fetch", lambda files, attempts: asked.append(attempts))
    assert (command("show", "by-hand", 1).code, command("logs", "by-hand", 2).code) == (0, 0)
    assert asked == [{1: 1}, {2: 1}]


def test_logs_are_printed_whole_and_for_one_trial(command: Command, study: Study) -> None:
    assert "wrote nothing into" in command("logs", "by-hand").err
    logs = study.folder / "logs"
    logs.mkdir()
    (logs / "worker-0.log").write_text("trial 1: a warning\ntrial 10: another\nin trials/0001/config.yaml\n")
    (logs / "worker-1.log").write_text("")
    whole = command("logs", "by-hand").out
    assert whole == f"==> {logs / 'worker-0.log'}\n{(logs / 'worker-0.log').read_text()}"
    metrics = study.folder / "trials" / "0001" / "metrics.jsonl"
    metrics.write_text(json.dumps({"epoch": 1, "val/top1": 20.0, "time": 1.0}) + "\n")
    lines = command("logs", "by-hand", 1).out.splitlines()
    assert lines[:2] == ["epoch 1  val/top1 20", "trial 1 complete, started 1 time"]
    assert lines[3:] == ["trial 1: a warning", "in trials/0001/config.yaml"]
    assert "trial 3 failed, started 1 time: out of memory" in command("logs", "by-hand", 3).out


def test_runs_of_a_confirmation_are_listed_and_shown(command: Command, root: Path) -> None:
    root.mkdir()
    hand = confirming(searched(root), against=["KD"], seeds=2)
    for _ in range(3):
        attempt = hand.driver.next_attempt()
        assert attempt is not None
        hand.run(attempt, level)
    attempt = hand.driver.next_attempt()
    assert attempt is not None
    hand.ledger.tell(attempt.number, "failed", reason="KeyError: 'x'")
    hand.close()
    rows = json.loads(command("trials", "tiny", "--stage", "confirm", "--json").out)
    assert [row["number"] for row in rows] == [LIST_NUMBERS + place for place in range(4)]
    assert set(rows[0]["values"]) == {"test/top1"}
    (failed,) = json.loads(command("trials", "tiny", "--stage", "confirm", "--state", "failed", "--json").out)
    assert json.loads(command("trials", "tiny", "--stage", "ablate", "--json").out) == []
    said = command("show", "tiny", failed["number"])
    assert said.out.splitlines()[:2] == [f"trial {failed['number']}: failed ({failed['baseline']})", "  KeyError: 'x'"]
    assert f"trial {failed['number']} failed" in command("logs", "tiny", failed["number"]).out
    assert ", test/top1 " in command("show", "tiny", LIST_NUMBERS).out.splitlines()[0]


def test_a_sweep_is_removed_with_all_that_is_its_own(
    command: Command,
    root: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    study = usual(root)
    (root / "teachers" / "t").mkdir(parents=True)
    monkeypatch.setattr("click.termui.visible_prompt_func", lambda text: "n")
    assert "is not removed" in one_line(command("rm", "by-hand"), 2, "USAGE")
    assert search.status("by-hand", root=root)
    said = command("rm", "by-hand", "--yes")
    assert said.code == 0, said.err
    assert said.out == f"removed its study in {storage_url(root)}, {study.folder}\n"
    assert not study.folder.exists()
    assert (root / "teachers" / "t").exists()
    assert "there is none" in one_line(command("status", "by-hand"), 5, "STATE")
    assert "there is none" in one_line(command("rm", "by-hand", "--yes"), 5, "STATE")
    assert usual(root).ledger.records(), "the name is free again"


def test_a_sweep_that_is_driven_stays(
    command: Command, study: Study, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ICD_ROOT", "elsewhere")
    with driver_lock(study.folder):
        said = one_line(command("rm", "by-hand", "--yes", "--root", root), 5, "STATE")
    assert "is driven by pid" in said
    assert f"'icd stop by-hand --now --root {root}'" in said
    said = one_line(command("show", "by-hand", 99, "--root", root), 5, "STATE")
    assert f"'icd trials by-hand --root {root}'" in said
    assert len(search.trials("by-hand", root=root)) == 6


def test_a_removal_that_was_cut_off_is_finished_by_another(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    study = usual(root)
    with monkeypatch.context() as patch:
        patch.setattr("icd.search.study.ledger.Ledger.remove", raised)
        with pytest.raises(KeyboardInterrupt):
            remove(root, "by-hand", mlflow=False)
    assert parts_of(root, "by-hand", mlflow=False) == [f"its study in {storage_url(root)}", str(study.folder)]
    remove(root, "by-hand", mlflow=False)
    assert not study.folder.exists()


def raised(*arguments: object) -> None:
    raise KeyboardInterrupt


def test_files_of_a_study_elsewhere_stay(command: Command, root: Path) -> None:
    study = usual(root)
    database = open_storage(storage_url(root))
    database.delete_study(database.get_study_id_from_name(study.sweep.name))
    assert "that the study database does not know" in one_line(command("rm", "by-hand", "--yes"), 5, "STATE")
    assert (study.folder / "trials" / "0000").exists()


def test_a_study_whose_files_are_elsewhere_stays(
    command: Command, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usual(root)
    monkeypatch.setenv("ICD_STORAGE_URL", storage_url(root))
    other = tmp_path / "other"
    changing = (("confirm", "by-hand", "--against", "KD"), ("try", "by-hand", "--set", "method.cluster_weight=8"))
    for words in (("report", "by-hand"), ("rm", "by-hand", "--yes"), ("resume", "by-hand"), *changing):
        assert "its files are not below" in one_line(command(*words, "--root", str(other)), 5, "STATE"), words
    assert len(search.trials("by-hand", root=other)) == 6
    assert not (other / "sweeps").exists()
    (other / "sweeps" / "by-hand").mkdir(parents=True)  # they are gone for good
    assert command("rm", "by-hand", "--yes", "--root", str(other)).code == 0


def test_its_experiment_goes_only_where_that_is_asked(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{root / 'mlflow.db'}")
    usual(root)
    from icd.search.tracking.mlflow_client import connect

    client = connect(f"sqlite:///{root / 'mlflow.db'}")
    client.create_experiment("by-hand", tags={"icd.uid": "f00d"})
    search.remove("by-hand", root=root)
    assert client.get_experiment_by_name("by-hand") is not None
    usual(root)
    search.remove("by-hand", root=root, mlflow=True)
    assert client.get_experiment_by_name("by-hand") is None, "its name is free for another sweep"
    client.create_run(client.create_experiment("by-hand"))
    study = usual(root)
    study.ledger.note_study(uid="beef")  # as every new sweep has one of its own
    with pytest.raises(StateError, match="has no experiment of sweep 'by-hand'; set"):
        search.remove("by-hand", root=root, mlflow=True)
    assert client.get_experiment_by_name("by-hand") is not None, "it holds a run that is not this sweep's"
    for uri, error, told in (
        (f"sqlite:///{root / 'none.db'}", StateError, "none.db has no experiment"),
        (f"http://127.0.0.1:{free_port()}", SetupError, "try again, or leave --mlflow out"),
        ("localhost:5000", SetupError, "try http://localhost:5000"),
    ):
        monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
        with pytest.raises(error, match=told):
            search.remove("by-hand", root=root, mlflow=True)
    assert study.folder.exists()
    assert len(search.trials("by-hand", root=root)) == 6


def contents(root: Path) -> dict[str, bytes]:
    """Every file but that in which SQLite keeps who reads."""
    files = (path for path in sorted(root.rglob("*")) if path.is_file() and not path.name.endswith("-shm"))
    return {str(path.relative_to(root)): path.read_bytes() for path in files}


def test_a_root_of_an_earlier_format_is_refused_and_left_as_it_is(command: Command, root: Path) -> None:
    study = usual(root)
    with closing(sqlite3.connect(root / "study.db")) as database, database:
        assert database.execute("delete from study_user_attributes where key = 'icd:format'").rowcount == 1
    shutil.rmtree(study.folder)
    file = root.parent / "sweep.yaml"
    file.write_text(yaml.safe_dump(study.document))
    before = contents(root)
    for words in (
        ("status",),
        ("status", "by-hand"),
        ("trials", "by-hand"),
        ("resume", "by-hand"),
        ("sweep", file),
        ("confirm", "by-hand"),
        ("rm", "by-hand", "--yes"),
    ):
        line = one_line(command(*words), 5, "STATE")
        assert "sweep 'by-hand' was made by a version of icd with another format" in line, words
        assert contents(root) == before, words
