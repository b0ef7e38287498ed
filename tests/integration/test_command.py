"""The command as people and programs use it: exit codes, one-line errors, JSON."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from icd.training import checkpoints
from tests.command import Command, one_line
from tests.data_contract import npz_arrays

DATA = "{name: digits100, train_per_class: 2, test_per_class: 1, val_fraction: 0.5}"
PLAIN = f"data: {DATA}\nstudent: resnet8\nmethod: cross_entropy\ntraining: {{epochs: 2, batch_size: 50}}\n"
TAUGHT = f"""data: {DATA}
teacher: {{arch: resnet8, weights: train, training: {{epochs: 1, batch_size: 50}}}}
student: resnet8
method: iCD-KD
training: {{epochs: 2, batch_size: 50}}
"""
DATA_SETS = ("data.train_per_class=2", "data.test_per_class=1", "data.val_fraction=0.5")
TEACHER = ["--arch", "resnet8", "--data", "digits100"] + [word for item in DATA_SETS for word in ("--set", item)]


@pytest.fixture
def plain(tmp_path: Path) -> Path:
    path = tmp_path / "plain.yaml"
    path.write_text(PLAIN)
    return path


def test_validate(command: Command, plain: Path) -> None:
    said = command("validate", plain)
    assert said.code == 0
    assert "is valid; key" in said.out
    told = json.loads(command("validate", plain, "--json").out)
    assert told["config"]["student"]["arch"] == "resnet8"


def test_bad_configuration_makes_nothing(command: Command, plain: Path, tmp_path: Path) -> None:
    root = tmp_path / "root"
    plain.write_text(PLAIN.replace("resnet8", "resnet9"))
    assert "resnet" in one_line(command("validate", plain), 2, "CONFIG")
    assert f"{plain}:2" in one_line(command("train", plain, "--root", root), 2, "CONFIG")
    assert not root.exists()


def test_images_of_another_size_than_the_views_are_refused_at_the_files_line(command: Command, tmp_path: Path) -> None:
    np.savez(tmp_path / "x48.npz", **npz_arrays(side=48))
    trial, sweep, root = tmp_path / "trial.yaml", tmp_path / "sweep.yaml", tmp_path / "root"
    trial.write_text("student: resnet8\nmethod: cross_entropy\ndata: {name: npz, path: x48.npz}\n")
    sweep.write_text(
        "name: s\nstudent: resnet8\nmethod: cross_entropy\ndata: {name: npz, path: x48.npz}\n"
        "training: {epochs: 1, lr: {low: 0.01, high: 0.1}}\nsearch: {budget: {trials: 1}}\n"
    )
    rule = "training.augmentation: images of npz are 48 x 48, which these views do not resize, but got 32"
    where = ("--root", root, "--data-root", tmp_path)
    assert f"{trial}:1: {rule}" in one_line(command("train", trial, *where), 2, "CONFIG")
    assert f"{sweep}:5: {rule}" in one_line(command("sweep", sweep, "--executor", "process", *where), 2, "CONFIG")


@pytest.mark.parametrize("name", ["../x", "", "a/b", ".hidden", "x" * 65])
def test_bad_name(command: Command, plain: Path, tmp_path: Path, name: str) -> None:
    assert "--name" in one_line(command("train", plain, "--name", name, "--root", tmp_path / "root"), 2, "USAGE")
    assert not (tmp_path / "root").exists()


def test_usage(command: Command, tmp_path: Path) -> None:
    assert "did you mean 'train'?" in one_line(command("trian"), 2, "USAGE")
    assert "none.yaml" in one_line(command("train", tmp_path / "none.yaml"), 2, "CONFIG")
    one_line(command("train"), 2, "USAGE")
    one_line(command("validate", "--nonsense"), 2, "USAGE")


def test_missing_teacher(command: Command, tmp_path: Path) -> None:
    path = tmp_path / "taught.yaml"
    path.write_text(TAUGHT)
    said = command("train", path, "--root", tmp_path / "root", "--set", "teacher={arch: resnet8, weights: nobody}")
    assert "no teacher 'nobody'" in one_line(said, 6, "TEACHER")


def test_missing_data(command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ICD_DATA", raising=False)
    path = tmp_path / "c.yaml"
    path.write_text("data: cifar100\nstudent: resnet8\nmethod: cross_entropy\n")
    one_line(command("train", path, "--root", tmp_path / "root"), 3, "DATA")
    one_line(command("train", path, "--root", tmp_path / "root", "--data-root", tmp_path / "none"), 3, "DATA")


def test_no_such_device(command: Command, plain: Path, tmp_path: Path) -> None:
    one_line(command("train", plain, "--root", tmp_path / "root", "--device", "cuda:99"), 3, "SETUP")


@pytest.mark.parametrize("verb", ["methods", "models", "datasets", "doctor"])
def test_listings(command: Command, verb: str, tmp_path: Path) -> None:
    for more in ([], ["--json"]):
        said = command(verb, *more, *(["--root", tmp_path / "root"] if verb == "doctor" else []))
        assert said.code == 0, said.err + said.out
        assert said.out.strip()
    assert json.loads(said.out)
    assert not (tmp_path / "root").exists()


def test_train_twice_and_changed(command: Command, tmp_path: Path) -> None:
    path, root = tmp_path / "taught.yaml", tmp_path / "root"
    path.write_text(TAUGHT)
    first = command("train", path, "--root", root, "--json")
    assert first.code == 0, first.err
    result = json.loads(first.out)
    assert result["epochs"] == 2
    assert first.err.count("epoch ") == 3  # one of the teacher, two of the student
    folder = root / "trials" / "taught"
    assert json.loads((folder / "result.json").read_text()) == result
    assert len((folder / "metrics.jsonl").read_text().splitlines()) == 2
    kept = {file: file.stat().st_mtime_ns for file in root.rglob("*") if file.is_file()}

    second = command("train", path, "--root", root, "--json")
    assert (second.code, json.loads(second.out)) == (0, result)
    assert "finished" in second.err
    assert "epoch " not in second.err
    assert {file: file.stat().st_mtime_ns for file in root.rglob("*") if file.is_file()} == kept

    changed = command("train", path, "--root", root, "--set", "method={recipe: iCD-KD, cluster_weight: 8}")
    assert "method.cluster_weight: 2.0 -> 8" in one_line(changed, 5, "STATE")
    tested = command("train", path, "--root", root, "--json", "--test")
    assert {"top1", "top5"} <= json.loads(tested.out)["test"].keys()
    assert command("train", path, "--root", root, "--json", "--test").out == tested.out
    assert len((folder / "test_looks.jsonl").read_text().splitlines()) == 1


def test_a_file_that_is_measured_on_test_images_needs_test_and_is_counted(
    command: Command, plain: Path, tmp_path: Path
) -> None:
    root, looks = tmp_path / "root", tmp_path / "root" / "trials" / "plain" / "test_looks.jsonl"
    confirmed = ("train", plain, "--root", root, "--set", "data.train_on=train+val", "--set", "data.measure_on=test")
    told = one_line(command(*confirmed), 2, "CONFIG")
    assert "data.measure_on: must be val without --test" in told
    assert "but got 'test'; add --test, or --set data.measure_on=val --set data.train_on=train" in told
    assert not looks.parent.exists()
    for _ in range(2):
        said = command(*confirmed, "--test")
        assert said.code == 0, said.err
        assert "test top-1" in said.out
        assert [json.loads(line)["purpose"] for line in looks.read_text().splitlines()] == ["icd train --test plain"]
    words = told.partition("or ")[2].split()
    assert "val top-1" in command(*confirmed, *words, "--name", "tried").out
    assert not (root / "trials" / "tried" / looks.name).exists()


def test_fingerprint(command: Command, plain: Path, tmp_path: Path) -> None:
    root = tmp_path / "root"
    refused = command("train", plain, "--root", root, "--check-fingerprint")
    assert "needs a file with a fingerprint" in one_line(refused, 2, "USAGE")
    assert command("train", plain, "--root", root).code == 0
    noted = json.loads((root / "trials" / "plain" / "fingerprint.json").read_text())
    assert (noted["teacher"], len(noted["losses"])) == ("none", 4)

    again = tmp_path / "again.yaml"
    config = (root / "trials" / "plain" / "config.yaml").read_text()
    again.write_text(config + yaml.safe_dump({"fingerprint": noted}))
    same = command("train", again, "--root", root, "--check-fingerprint", "--json")
    assert same.code == 0, same.err
    assert "icd: fingerprint: first 4 losses equal to 1e-06\n" in same.err
    assert json.loads(same.out)["fingerprint"]["equal"]

    noted["losses"][2] += 0.5
    again.write_text(config + yaml.safe_dump({"fingerprint": noted}))
    other = command("train", again, "--root", root)  # the trial is finished; its own first losses were kept
    assert other.code == 0
    assert "fingerprint: the loss of step 3 of 4 differs by" in other.err
    refused = command("train", again, "--root", root, "--check-fingerprint")
    assert "[CHECKPOINT] fingerprint: the loss of step 3 of 4" in one_line(refused, 6, "CHECKPOINT")
    (root / "trials" / "again" / "fingerprint.json").write_text("{")
    assert "is damaged" in one_line(command("train", again, "--root", root), 6, "CHECKPOINT")


def test_teachers(command: Command, tmp_path: Path) -> None:
    root = tmp_path / "root"
    more = ["--root", root, "--set", "training.epochs=1", "--json"]
    made = command("teacher", "train", *TEACHER, "--name", "mine", *more)
    assert made.code == 0, made.err
    card = json.loads(made.out)
    listed = json.loads(command("teacher", "list", "--json", "--root", root).out)
    assert listed == [card]
    assert (card["name"], card["val_unseen"], card["origin"]) == ("mine", True, "trained")

    weights = checkpoints.load(root / "teachers" / card["digest"][:16] / "weights.ckpt")["weights"]
    file = tmp_path / "published.pth"
    torch.save({"model": weights, "best_acc": 1.0}, file)
    other = tmp_path / "other"
    brought = command("teacher", "import", file, *TEACHER, "--root", other, "--json")
    assert brought.code == 0, brought.err
    again = json.loads(brought.out)
    assert (again["digest"], again["val_unseen"]) == (card["digest"], False)
    assert again["val_top1"] == card["val_top1"]
