"""``icd report`` and ``icd compare``: files, texts, exit codes."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest

from icd.results import compare as compare_module
from icd.results.compare import compare
from icd.results.outcome import Outcome
from icd.search.study import sweep_files
from tests.command import Command, one_line
from tests.reports import confirmation
from tests.studies import DOCUMENT, Study, changed

CONFIRMED = ("confirmed", "chosen among", "against KD", "against iCD-KD")


def other(root: Path, **parts: Any) -> Study:
    study = Study(root, changed(**{"name": "other", **parts}))
    study.trial("complete", [10, 20, 30, 45], baseline=True)
    return study


# report


def test_a_report_is_written_beside_the_trials(command: Command, study: Study) -> None:
    study.ledger.note_study(stopped_by="budget")  # MLflow was told of it
    said = command("report", "by-hand")
    assert said.code == 0, said.err
    assert said.out == f"{study.folder / 'report.html'}\n"
    assert "Sweep by-hand" in (study.folder / "report.html").read_text()
    assert not (study.root / "mlflow.db").exists()  # nobody asked for it


def test_a_report_is_written_elsewhere_and_replaced(command: Command, study: Study, tmp_path: Path) -> None:
    output = tmp_path / "new" / "page.html"
    for _ in range(2):
        said = command("report", "by-hand", "-o", output, "--json")
        assert json.loads(said.out) == {"name": "by-hand", "path": str(output)}
    assert output.read_text().startswith("<!DOCTYPE html>")
    assert not (study.folder / "report.html").exists()


def test_a_report_goes_to_the_bucket_that_is_the_root(
    command: Command, study: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (study.folder / "confirmation.json").write_text("{}")  # a copy that may be older than the bucket's
    bucket = Mock(list=lambda names: {})
    monkeypatch.setattr(sweep_files, "bucket_of", lambda root: bucket)
    assert command("report", "by-hand", "-o", tmp_path / "page.html").code == 0
    bucket.upload.assert_not_called()
    assert command("report", "by-hand").code == 0
    bucket.upload.assert_called_once_with("sweeps/by-hand/report.html", study.folder / "report.html")


def test_verbs_that_read_take_no_framework_that_they_do_not_need(study: Study, tmp_path: Path) -> None:
    study.ledger.note_study(stopped_by="budget")
    other(study.root)
    config = str(tmp_path / "best.yaml")
    verbs = [["report", "by-hand"], ["compare", "by-hand", "other"]]
    verbs.append(["export", "by-hand", "--unconfirmed", "-o", config])
    code = "import sys, json; from icd.cli.main import main\nassert not any(map(main, json.loads(sys.argv[1])))\n"
    code += "sys.exit(repr([name for name in ('mlflow', 'ray', 'pandas', 'matplotlib') if name in sys.modules]))"
    done = subprocess.run([sys.executable, "-c", code, json.dumps(verbs)], capture_output=True, text=True, check=False)
    assert done.stderr.strip() == "[]"


@pytest.mark.usefixtures("study")
def test_no_such_sweep(command: Command) -> None:
    assert "by-hand" in one_line(command("report", "by-hnd"), 5, "STATE")


@pytest.mark.usefixtures("study")
def test_a_report_that_cannot_be_written(command: Command, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    said = command("report", "by-hand", "-o", tmp_path / "file" / "page.html")
    assert "cannot be written" in one_line(said, 3, "SETUP")


# compare


def test_what_differs_is_shown(command: Command, root: Path, study: Study) -> None:
    other(root, training={"epochs": 4, "batch_size": 25})
    said = command("compare", "by-hand", "other")
    assert said.code == 0, said.err
    assert "val/top1 50.00 % (trial 1)" in said.out
    assert "val/top1 45.00 % (trial 0)" in said.out
    line = next(line for line in said.out.splitlines() if line.startswith("training.batch_size"))
    assert line.split()[1:] == ["50", "25"]
    assert "The best of more trials is better by chance alone" in said.out
    told = json.loads(command("compare", "by-hand", "other", "--json").out)
    assert told["differences"] == {"training.batch_size": {"by-hand": "50", "other": "25"}}
    assert told["names"] == ["by-hand", "other"]
    assert study.ledger.name == "by-hand"


@pytest.mark.parametrize(
    ("attributes", "parts", "warning"),
    [
        ({"data_digest": "e:s"}, {}, "different images"),
        ({"test_digest": "u"}, {}, "confirmed on different test images"),
        ({"data_digest": "d:t"}, {}, "split differently"),
        ({"teachers": {"t": "2"}}, {}, "teachers differ"),
        ({}, {"objective": {"metric": "val/loss"}}, "objectives differ"),
    ],
)
def test_what_cannot_be_compared_is_said(
    attributes: dict[str, Any], parts: dict[str, Any], warning: str, root: Path
) -> None:
    one, two = other(root, name="one"), other(root, name="two", **parts)
    for study in (one, two):
        study.ledger.note_study(data_digest="d:s", test_digest="t", teachers={"t": "1"})
    two.ledger.note_study(**attributes)
    (found,) = compare(root, ["one", "two"])["warnings"]
    assert warning in found


def test_a_difference_at_the_end_of_a_long_list_or_number_is_shown(command: Command, root: Path) -> None:
    recipes = ["KD", "DKD", "SP", "CRD", "WTTM", "RLD", "DIST", "NKD", "LDRLD", "SD-KD", "SD-DKD", "SD-NKD", "SD-RLD"]
    ranges = {"cluster_weight": {"low": 1, "high": 8}, "cluster_temperature": {"low": 0.5, "high": 4, "log": True}}
    for name, last, lr in (("one", "ABKD", 0.05), ("two", "iCD-WTTM", 0.05000001)):
        searched = [{"recipe": recipe, **ranges} for recipe in ("iCD-KD", "iCD-DKD", "iCD-NKD")]
        choices = searched + [{"recipe": recipe} for recipe in [*recipes, last]]
        training = {"epochs": 4, "batch_size": 50, "lr": lr}
        Study(root, changed(name=name, method={"choices": choices}, ranges=None, enqueue=None, training=training))
    lines = command("compare", "one", "two").out.splitlines()
    shown = {line.split("  ")[0]: line.split()[1:] for line in lines}
    assert shown["method.choices"] == ["...", "recipe", "ABKD]", "...", "recipe", "iCD-WTTM]"]
    assert shown["training.lr"] == ["0.05", "0.05000001"]


def test_pairs_of_opposite_directions_are_told_apart(command: Command, root: Path) -> None:
    pairs = [{"name": name, "teacher": DOCUMENT["teacher"], "student": name} for name in ("resnet8", "resnet14")]
    parts = {"teacher": None, "student": None, "pairs": pairs, "pruner": None, "enqueue": None}
    study = Study(root, changed(name="two", objective="val/loss", **parts))
    number = study.ledger.ask(study.space.suggest)
    study.ledger.tell(number, "complete", [1.0], exit_reason="complete", members={"resnet8": 1.0, "resnet14": 1.0})
    other(root, name="up", objective={"metric": "val/loss", "direction": "maximize"})
    said = one_line(command("compare", "--pairs", "two", "up"), 2, "USAGE")
    assert "must have the objective minimize val/loss too, but got maximize val/loss" in said


def test_equal_sweeps_have_nothing_to_warn_of(root: Path) -> None:
    other(root, name="one"), other(root, name="two")
    found = compare(root, ["one", "two"])
    assert (found["warnings"], found["differences"]) == ([], {})


def test_what_is_confirmed_has_a_row_for_each_baseline(
    command: Command, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other(root, name="one"), other(root, name="two")
    known = {"one": replace(confirmation(), sweep="one")}
    monkeypatch.setattr(compare_module, "outcome_of", lambda ledger, stage: known.get(ledger.name))
    found = compare(root, ["one", "two"])
    assert {row: cells for row, cells in found["figures"].items() if row in CONFIRMED} == {
        "confirmed": {"one": "trial 7: 74.10 ± 0.21 (n=4)", "two": "no"},
        "chosen among": {"one": "2 finalists, by luck about 0.20 too high", "two": ""},
        "against KD": {"one": "+1.42 [+0.82 to +2.02]", "two": ""},
        "against iCD-KD": {"one": "+0.31 [-0.59 to +1.21]", "two": ""},
    }
    assert any("Only one is confirmed" in warning for warning in found["warnings"])
    known["two"] = replace(confirmation(finished=False), train_on="train", planned_seeds=10)
    said = command("compare", "one", "two").out
    assert "not finished; trial 7: 74.10 ± 0.21 (n=4)" in said
    assert "Only one is confirmed" in said
    assert "confirmed in different ways (what was trained on, seeds)" in said
    assert "Between sweeps nothing is tested" in said
    known["one"] = replace(known["one"], winner="a baseline's or a trial's own label that is 48 letters long")
    monkeypatch.setattr(Outcome, "arm", lambda self, label: replace(self.arms[0], label=label))
    assert f"{known['one'].winner}: 74.10 ± 0.21 (n=4)  " in command("compare", "one", "two").out, "nothing is cut"


@pytest.mark.parametrize("names", [("by-hand",), ("by-hand", "by-hand")])
@pytest.mark.usefixtures("study")
def test_two_sweeps_are_needed(names: tuple[str, ...], command: Command) -> None:
    assert "at least two different sweeps" in one_line(command("compare", *names), 2, "USAGE")
