"""The verbs of a sweep on studies built by hand: texts, JSON, exit codes; nothing is trained here."""

import csv
import io
import json
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import yaml
from safetensors import safe_open

from icd import search
from icd.config.read_trial import read_trial
from icd.config.yaml import read_yaml
from icd.search.core.dead_terms import DeadTerm
from icd.search.study.locks import driver_lock
from tests.command import Command, one_line
from tests.studies import Study, changed


@pytest.fixture
def driven(study: Study) -> Iterator[Study]:
    with driver_lock(study.folder):
        yield study


def file(folder: Path, **parts: Any) -> Path:
    path = folder / "sweep.yaml"
    path.write_text(yaml.safe_dump(changed(**parts)))
    return path


# status


@pytest.mark.usefixtures("study")
def test_status_of_one(command: Command) -> None:
    said = command("status", "by-hand")
    assert said.code == 0, said.err
    assert "trials: 1 interrupted, 2 complete, 1 pruned, 1 failed, 1 duplicate" in said.out
    assert "budget: 5 of 6 trials" in said.out
    assert "stopped (its driver ended without saying why); continue with 'icd resume by-hand'" in said.out
    best = said.out.split("best by val/top1:")[1].splitlines()
    assert best[2].split()[:3] == ["1", "50", "4"]
    assert "pruning: 1 trial stopped, 2 epochs saved (17%)" in said.out


@pytest.mark.usefixtures("study")
def test_status_as_json(command: Command) -> None:
    told = json.loads(command("status", "by-hand", "--json").out)
    counts = {"running": 0, "interrupted": 1, "complete": 2, "pruned": 1, "failed": 1, "duplicate": 1, "retried": 0}
    assert told["counts"] == counts
    assert (told["state"], told["driver"], told["best"]["number"], told["front"]) == ("stopped", None, 1, [])
    (best,) = json.loads(command("trials", "by-hand", "--top", "1", "--json").out)
    assert {**told["best"], "curve": best["curve"]} == best
    assert told["used"]["trials"] == 5
    assert told["pruning"]["epochs_saved"] == 2
    (row,) = json.loads(command("status", "--json").out)
    assert {**row, "pruning": told["pruning"], "front": [], "dead_terms": [], "confirmed": None} == told


def test_dead_terms_are_shown(command: Command, root: Path) -> None:
    study = Study(root)
    found = [
        DeadTerm(term="cluster", share=share, epoch=4, weight="cluster_weight", value=value, searched=("gram",))
        for share, value in ((0.003, 2.0), (0.001, 1.0))
    ]
    for dead in found:
        study.trial("complete", [10, 20, 30, 40], dead_terms=[dead.to_data()])
    study.trial("complete", [10, 20, 30, 40])
    line = (
        "cluster term, 2 of 3 trials: 0.1 % to 0.3 % of the gradient at cluster_weight 1 to 2: "
        "the searched gram cannot matter"
    )
    said = command("status", "by-hand").out
    assert said.endswith(f"terms that do nothing:\n  {line}\n")
    (told,) = json.loads(command("status", "by-hand", "--json").out)["dead_terms"]
    assert (told["sentence"], told["trials"]) == (line, [0, 1])
    sentences = [dead.sentence for dead in found]
    assert command("trials", "by-hand").out.splitlines()[-2:] == [
        f"trial {number}: {sentence}" for number, sentence in enumerate(sentences)
    ]
    rows = json.loads(command("trials", "by-hand", "--json").out)
    assert [[term["sentence"] for term in row["dead_terms"]] for row in rows] == [*([s] for s in sentences), []]
    table = csv.DictReader(io.StringIO(command("trials", "by-hand", "--csv").out))
    assert [row["dead_terms"] for row in table] == [*sentences, ""]


@pytest.mark.parametrize(
    ("stopped_by", "running", "state"),
    [("budget", False, "finished"), ("exhausted", False, "finished"), ("budget", True, "stopped")]
    + [(why, False, "stopped") for why in ("", "signal", "stop", "failures")],
)
def test_state(command: Command, root: Path, stopped_by: str, running: bool, state: str) -> None:
    study = Study(root)
    study.trial("running" if running else "complete", [1])
    study.ledger.note_study(stopped_by=stopped_by)
    told = json.loads(command("status", "by-hand", "--json").out)
    assert (told["state"], told["stopped_by"]) == (state, stopped_by)


def test_status_names_the_driver(command: Command, driven: Study) -> None:
    driven.ledger.note_study(stopped_by="budget")
    told = json.loads(command("status", "by-hand", "--json").out)
    assert (told["state"], told["stopped_by"]) == ("driven", "")
    assert told["driver"].startswith("pid ")
    assert "driven by pid " in command("status").out


def test_a_sweep_that_is_prepared_has_a_status(command: Command, root: Path) -> None:
    (root / "sweeps" / "young").mkdir(parents=True)
    with driver_lock(root / "sweeps" / "young"):
        assert "preparing, driven by pid " in command("status", "young").out
        assert "preparing" in command("status").out
        assert json.loads(command("status", "young", "--json").out)["state"] == "preparing"
    one_line(command("status", "young"), 5, "STATE")


def test_no_sweeps(command: Command, root: Path) -> None:
    assert "no sweeps in" in command("status").out
    assert json.loads(command("status", "--json").out) == []
    assert not root.exists()


@pytest.mark.usefixtures("study")
@pytest.mark.parametrize(
    "words",
    [
        ["status"],
        ["trials"],
        ["stop"],
        ["sync"],
        ["logs"],
        ["rm", "--yes"],
        ["resume"],
        ["ui", "--no-browser"],
        ["export", "-o", "x.yaml"],
    ],
    ids=lambda words: words[0],
)
def test_unknown_name(command: Command, words: list[str]) -> None:
    verb, *more = words
    assert "did you mean 'by-hand'?" in one_line(command(verb, "by-hnad", *more), 5, "STATE")


def test_nothing_was_started(command: Command, root: Path) -> None:
    assert "nothing was started there" in one_line(command("trials", "by-hand"), 5, "STATE")
    assert not root.exists()


def test_several_objectives(command: Command, root: Path, tmp_path: Path) -> None:
    study = Study(root, changed(objective=["val/top1", "cost/seconds"], pruner=None))
    for values in ([50, 9], [60, 20], [40, 10], [50, 30]):
        study.trial("complete", [values[0]], values=values, files=True)
    told = json.loads(command("status", "by-hand", "--json").out)
    assert (told["front"], told["metrics"], told["pruning"]) == ([1, 0], ["val/top1", "cost/seconds"], None)
    assert "that no other beats in val/top1, cost/seconds:" in command("status", "by-hand").out
    refused = command("export", "by-hand", "--unconfirmed", "-o", tmp_path / "a.yaml")
    assert "none beats: 1, 0" in one_line(refused, 2, "USAGE")
    assert command("export", "by-hand", "--unconfirmed", "-o", tmp_path / "a.yaml", "--trial", 3).code == 0


# trials


@pytest.mark.usefixtures("study")
def test_trials(command: Command) -> None:
    lines = command("trials", "by-hand").out.splitlines()
    assert lines[0].split() == ["trial", "state", "val/top1", "last", "epochs", "seconds", "configuration", "reason"]
    assert [line.split()[:2] for line in lines[1:]] == [
        [str(number), state]
        for number, state in enumerate(["complete", "complete", "pruned", "failed", "duplicate", "interrupted"])
    ]
    assert "KD" in lines[1]
    assert "out of memory" in lines[4]


@pytest.mark.usefixtures("study")
def test_trials_as_json(command: Command) -> None:
    rows = json.loads(command("trials", "by-hand", "--json").out)
    assert [row["number"] for row in rows] == list(range(6))
    assert (rows[0]["baseline"], rows[0]["params"], rows[0]["control"]) == ("KD", {}, True)
    assert (rows[1]["values"], rows[1]["epochs"], rows[1]["seconds"]) == ({"val/top1": 50}, 4, 3.0)
    assert rows[1]["curve"] == {"1": 20, "2": 30, "3": 40, "4": 50}
    assert (rows[2]["values"], rows[2]["last"], rows[2]["epochs"]) == ({}, 6, 2)
    assert (rows[4]["twin"], rows[4]["reason"]) == (1, "same configuration as trial 1")
    assert 1 <= rows[1]["params"]["method.cluster_weight"] <= 8


@pytest.mark.usefixtures("study")
def test_trials_as_csv(command: Command) -> None:
    rows = list(csv.DictReader(io.StringIO(command("trials", "by-hand", "--csv").out)))
    assert len(rows) == 6
    assert (rows[1]["number"], rows[1]["state"], rows[1]["val/top1"]) == ("1", "complete", "50.0")
    assert (rows[2]["val/top1"], rows[0]["params_method.cluster_weight"]) == ("", "")
    assert 1 <= float(rows[1]["params_method.cluster_weight"]) <= 8


@pytest.mark.usefixtures("study")
def test_trials_chosen(command: Command) -> None:
    def numbers(*words: object) -> list[int]:
        return [row["number"] for row in json.loads(command("trials", "by-hand", "--json", *words).out)]

    assert numbers("--state", "failed", "--state", "pruned") == [2, 3]
    assert numbers("--top", 1) == [1]
    assert numbers("--top", 9) == [1, 0]
    one_line(command("trials", "by-hand", "--state", "lost"), 2, "USAGE")
    one_line(command("trials", "by-hand", "--csv", "--json"), 2, "USAGE")


@pytest.mark.parametrize("driven", [False, True])
def test_what_the_study_has_under_way_is_interrupted_wherever_one_looks_unless_somebody_drives(
    command: Command, study: Study, tmp_path: Path, driven: bool
) -> None:
    state, other = ("running", "interrupted") if driven else ("interrupted", "running")
    page = tmp_path / "page.html"
    with driver_lock(study.folder) if driven else nullcontext():
        assert f"1 {state}" in command("status", "by-hand").out
        assert f"1 {state}" in command("status").out
        assert json.loads(command("status", "by-hand", "--json").out)["counts"][state] == 1
        for chosen, numbers in ((state, [5]), (other, [])):
            rows = json.loads(command("trials", "by-hand", "--json", "--state", chosen).out)
            assert [(row["number"], row["state"]) for row in rows] == [(number, chosen) for number in numbers]
        assert f"5,{state}," in command("trials", "by-hand", "--csv").out
        assert f"trial 5: {state}" in command("show", "by-hand", 5).out
        assert json.loads(command("show", "by-hand", 5, "--json").out)["state"] == state
        assert f"trial 5 {state}, started 1 time" in command("logs", "by-hand", 5).out
        assert command("report", "by-hand", "-o", page).code == 0
        assert f"1 {state}" in page.read_text()
        assert search.trials("by-hand")[5].state == search.trial_rows("by-hand")[5]["state"] == state
        assert f"trial 5 is {state};" in command("export", "by-hand", "--unconfirmed", "--trial", 5, "-o", "x.yaml").err


# stop, flush


@pytest.mark.parametrize(("words", "asked"), [([], "drain"), (["--now"], "now")])
def test_stop(command: Command, driven: Study, words: list[str], asked: str) -> None:
    said = command("stop", "by-hand", *words)
    assert said.code == 0, said.err
    assert (driven.folder / "stop").read_text() == asked
    assert "icd resume by-hand" in said.err
    assert "pid " in said.err


def test_stop_without_a_driver(command: Command, study: Study) -> None:
    assert "driven by nobody" in one_line(command("stop", "by-hand"), 5, "STATE")
    assert not (study.folder / "stop").exists()


@pytest.mark.usefixtures("driven")
def test_a_driver_flushes_by_itself(command: Command) -> None:
    assert "sends what is pending by itself" in one_line(command("sync", "by-hand"), 5, "STATE")


# export


@pytest.mark.usefixtures("study")
def test_export(command: Command, tmp_path: Path) -> None:
    said = command("export", "by-hand", "--unconfirmed", "-o", tmp_path / "out" / "best.yaml", "--json")
    assert said.code == 0, said.err
    told = json.loads(said.out)
    (row,) = json.loads(command("trials", "by-hand", "--json", "--top", 1).out)
    assert (told["trial"], told["provenance"]["val/top1"], told["provenance"]["git"]) == (1, "50", "abc")
    assert told["provenance"]["key"] == row["key"] == read_trial(read_yaml(Path(told["config"]))).key()
    assert Path(told["config"]).read_text().startswith("# Trial 1 of sweep by-hand; weights in best.safetensors.")
    with safe_open(told["weights"], "pt") as weights:
        (belongs,) = weights.metadata().values()
        assert len(weights.keys()) > 20
    hour = {name: told["provenance"].pop(name) for name in ("created", "exported_by")}
    assert all(hour.values())
    assert {name: value for name, value in json.loads(belongs).items() if name != "weights"} == told["provenance"]
    again = command("export", "by-hand", "--unconfirmed", "-o", tmp_path / "again" / "best.yaml", "--json")
    same = Path(json.loads(again.out)["weights"]).read_bytes()
    assert same == Path(told["weights"]).read_bytes(), "the same run gives the same bytes"
    assert command("validate", told["config"]).code == 0


@pytest.mark.usefixtures("study")
def test_export_by_number_elsewhere(command: Command, tmp_path: Path) -> None:
    said = command("export", "by-hand", "--unconfirmed", "--trial", 0, "-o", tmp_path / "kd.yaml")
    assert said.code == 0, said.err
    assert "trial 0 of by-hand" in said.out
    assert "# baseline: KD" in (tmp_path / "kd.yaml").read_text()
    assert (tmp_path / "kd.safetensors").exists()


@pytest.mark.usefixtures("study")
@pytest.mark.parametrize(
    ("trial", "why"),
    [(2, "pruned (pruned at epoch 2)"), (3, "failed (out of memory)"), (5, "interrupted"), (99, "no trial 99")],
)
def test_export_of_what_did_not_finish(command: Command, tmp_path: Path, trial: int, why: str) -> None:
    said = command("export", "by-hand", "--unconfirmed", "--trial", trial, "-o", tmp_path / "x.yaml")
    assert why in one_line(said, 5, "STATE")
    assert not (tmp_path / "x.yaml").exists()


@pytest.mark.usefixtures("study")
@pytest.mark.parametrize("there", ["best.yaml", "best.safetensors"])
def test_export_over_a_file(command: Command, tmp_path: Path, there: str) -> None:
    (tmp_path / there).write_text("mine")
    words = ["export", "by-hand", "--unconfirmed", "-o", tmp_path / "best.yaml"]
    assert f"{there} exists" in one_line(command(*words), 5, "STATE")
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == [there]
    assert (tmp_path / there).read_text() == "mine"
    assert command(*words, "--force").code == 0
    assert (tmp_path / there).read_bytes() != b"mine"


def test_export_of_altered_files(command: Command, study: Study, tmp_path: Path) -> None:
    words = ["export", "by-hand", "--unconfirmed", "-o", tmp_path / "best.yaml"]
    folder = study.folder / "trials" / "0001"
    text = (folder / "config.yaml").read_text()
    (folder / "config.yaml").write_text(text.replace("batch_size: 50", "batch_size: 25"))
    assert "was altered" in one_line(command(*words), 6, "CHECKPOINT")
    (folder / "config.yaml").write_text(text)
    whole = (folder / "student.safetensors").read_bytes()
    (folder / "student.safetensors").write_bytes(whole[:-1])
    assert "cut short" in one_line(command(*words), 6, "CHECKPOINT")
    (folder / "student.safetensors").write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    assert "SHA-256" in one_line(command(*words), 6, "CHECKPOINT")
    (folder / "config.yaml").unlink()
    assert "is missing" in one_line(command(*words), 6, "CHECKPOINT")
    assert not (tmp_path / "best.yaml").exists()


def test_export_before_a_trial_is_complete(command: Command, root: Path, tmp_path: Path) -> None:
    Study(root).trial("running", [1])
    assert "no trial" in one_line(command("export", "by-hand", "--unconfirmed", "-o", tmp_path / "x.yaml"), 5, "STATE")


# sweep, resume


@pytest.mark.usefixtures("study")
@pytest.mark.parametrize(
    ("parts", "lines"),
    [
        (
            {"ranges": {"cluster_weight": {"low": 1, "high": 9}}},
            ["method.cluster_weight.high: 8", "another name"],
        ),
        ({"budget": {"trials": 9}}, ["search.budget.trials: 6 -> 9", "--extend"]),
    ],
    ids=["space", "budget"],
)
def test_taken_name(command: Command, tmp_path: Path, parts: dict[str, Any], lines: list[str]) -> None:
    said = one_line(command("sweep", file(tmp_path, **parts), "--executor", "process"), 5, "STATE")
    assert all(line in said for line in lines), said


@pytest.mark.usefixtures("study")
def test_resume_with_another_space(command: Command) -> None:
    said = command("resume", "by-hand", "--set", "method.cluster_weight.high=9", "--executor", "process")
    assert "method.cluster_weight.high: 8" in one_line(said, 5, "STATE")
    assert "found 3 done, 0 interrupted to continue, 1 lost, 1 failed" in said.err


def test_sweep_that_is_driven(command: Command, driven: Study, tmp_path: Path) -> None:
    for words in (["sweep", file(tmp_path)], ["resume", "by-hand"]):
        assert "is driven by pid " in one_line(command(*words, "--executor", "process"), 5, "STATE")
    assert len(driven.ledger.records()) == 6


@pytest.mark.parametrize(
    ("words", "code", "text"),
    [
        (["--set", "search.budget.trails=5"], 2, "did you mean 'trials'?"),
        (["--set", "method.cluster_weight.low=9"], 2, "low"),
        (["--name", "../up"], 2, "name"),
        (["--executor", "slurm"], 2, "slurm"),
    ],
)
def test_bad_options_make_nothing(
    command: Command, tmp_path: Path, root: Path, words: list[str], code: int, text: str
) -> None:
    said = command("sweep", file(tmp_path), *words)
    assert said.code == code, said.err
    assert text in said.err
    assert not root.exists()


def test_validate_a_sweep(command: Command, tmp_path: Path, root: Path) -> None:
    said = command("validate", file(tmp_path))
    assert said.code == 0, said.err
    assert "is a valid sweep; digest " in said.out
    told = json.loads(command("validate", file(tmp_path), "--json", "--set", "search.budget.trials=9").out)
    assert told["sweep"]["search"]["budget"]["trials"] == 9
    assert "did you mean 'search'" in one_line(command("validate", file(tmp_path, searhc={})), 2, "CONFIG")
    assert not root.exists()


# plan


def test_plan_without_measuring_makes_nothing(command: Command, tmp_path: Path, root: Path) -> None:
    words = ["plan", file(tmp_path, sampler="tpe", budget={"trials": 11})]
    said = command(*words)
    assert said.code == 0, said.err
    assert "epochs:    " in said.out
    assert "wall time: not known" in said.out
    told = json.loads(command(*words, "--json").out)
    assert [row["name"] for row in told["dimensions"]] == ["method.cluster_weight"]
    assert (told["configurations"], told["baselines"], told["trials"]) == (None, ["KD"], 11)
    assert list(told["suggestions"]) == ["1", "2", "3", "4", "5"]  # 0 is the baseline
    assert (told["device"], told["paces"], told["cost"]["wall_hours"]) == (None, {}, None)
    weights = 4 * 80_000  # resnet8 has about 85,000 of four bytes each, and every trial keeps them, with its figures
    assert 11 * weights < told["disk_bytes"] < 11 * 5 * weights
    assert not root.exists()


def test_plan_suggests_what_the_sweep_will_ask(command: Command, tmp_path: Path, study: Study) -> None:
    told = json.loads(command("plan", file(tmp_path), "--json").out)
    asked = {str(record.number): dict(record.params) for record in study.ledger.records() if record.params}
    assert told["suggestions"] == asked


def test_plan_of_a_grid(command: Command, tmp_path: Path, root: Path) -> None:
    path = file(tmp_path, ranges={"cluster_weight": {"choices": [1, 2, 4]}}, sampler="grid", budget=None)
    told = json.loads(command("plan", path, "--json").out)
    assert (told["configurations"], told["trials"], len(told["suggestions"])) == (3, 4, 3)
    assert not root.exists()
