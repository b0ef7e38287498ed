"""A sweep over two pairs that really trains: its trials, what is shown of them."""

import json
import re
import shutil
import sqlite3
from dataclasses import asdict
from pathlib import Path

import pytest

from icd.config.read_trial import read_trial
from icd.config.yaml import read_yaml
from icd.search.study import sweep_index
from tests.command import Command, one_line
from tests.crash import harness as bare
from tests.crash.served import Harness, records
from tests.support.two_pairs import EPOCHS, ONE, held

EXPORTED = ("best.yaml", "student.safetensors", "README.md")


def test_every_trial_is_trained_on_every_pair(undisturbed_pairs: Path) -> None:
    found = records(undisturbed_pairs)
    assert [record.state for record in found] == ["complete"] * 3
    for record in found:
        assert sorted(record.curve) == list(range(1, 2 * EPOCHS + 1))
        assert record.members == {"small": record.curve[EPOCHS], "large": record.curve[2 * EPOCHS]}
        assert record.values == (sum(record.members.values()) / 2,)
        assert record.rank is not None
        assert record.attempts == 1
        folder = undisturbed_pairs / "sweeps" / "crash" / "trials" / f"{record.number:04d}"
        assert sorted(path.name for path in folder.iterdir()) == ["attempt", "large", "small"]
        for name, value in record.members.items():
            result = json.loads((folder / name / "result.json").read_text())
            assert (result["val"]["top1"], result["epochs"]) == (value, EPOCHS)
            assert not list(folder.glob("*/checkpoints/epoch-*"))
    best = min(found, key=lambda record: (record.rank, -record.values[0], record.number))
    with sqlite3.connect(undisturbed_pairs / "mlflow.db") as database:
        query = "select m.value from metrics m join tags t on t.run_uuid = m.run_uuid where t.key = 'icd.trial' "
        query += f"and t.value like '%/{best.number:04d}' and m.key = ? order by m.step"
        told = {name: database.execute(query, (f"final/{name}/val/top1",)).fetchall() for name in best.members}
        assert told == {name: [(value,)] for name, value in best.members.items()}
        epochs = [value for (value,) in database.execute(query, ("large/val/top1",)).fetchall()]
    assert epochs == [best.curve[epoch] for epoch in range(EPOCHS + 1, 2 * EPOCHS + 1)]


def test_what_is_shown(undisturbed_pairs: Path, command: Command) -> None:
    status = command("status", "crash", "--root", undisturbed_pairs)
    assert "best by mean rank over the pairs" in status.out, status.err
    rows = json.loads(command("trials", "crash", "--json", "--top", 3, "--root", undisturbed_pairs).out)
    assert [row["rank"] for row in rows] == sorted(row["rank"] for row in rows)
    assert all(set(row["members"]) == {"small", "large"} for row in rows)
    told = json.loads(command("status", "crash", "--json", "--root", undisturbed_pairs).out)
    assert (told["ranked"], told["best"]["number"]) == ("mean", rows[0]["number"])
    header = command("trials", "crash", "--csv", "--root", undisturbed_pairs).out.splitlines()[0]
    assert header.startswith("number,state,val/top1,rank,members_small,members_large,last,")
    number = rows[0]["number"]
    logs = command("logs", "crash", number, "--root", undisturbed_pairs).out
    assert ("small epoch 1  " in logs, "large epoch 1  " in logs) == (True, True)
    shown = json.loads(command("show", "crash", number, "--json", "--root", undisturbed_pairs).out)
    assert {name: config["student"]["arch"] for name, config in shown["config"].items()}.keys() == {"small", "large"}
    page = undisturbed_pairs / "page.html"
    assert command("report", "crash", "--root", undisturbed_pairs, "-o", page).code == 0
    assert "the mean rank over 2 pairs (maximize val/top1)" in page.read_text()
    assert f"rank {rows[0]['rank']:.4g} over the pairs (val/top1: small " in page.read_text()


def test_a_confirmation_trains_every_arm_on_every_pair(
    confirmed_pairs: Path, undisturbed_pairs: Path, command: Command
) -> None:
    assert bare.table(confirmed_pairs) == bare.table(undisturbed_pairs), "the search stays as it was"
    found, rows = held(confirmed_pairs), bare.table(confirmed_pairs, "confirm")
    assert [(row["arm"], row["seed"], row["state"]) for row in rows] == [
        (arm.label, seed, "complete") for seed in sorted({row["seed"] for row in rows}) for arm in found.arms
    ]
    best = min(
        records(undisturbed_pairs), key=lambda item: (item.baseline == "KD", item.rank, -item.values[0], item.number)
    )
    assert [arm.label for arm in found.arms] == [f"trial {best.number}", "KD"]
    assert (found.finished, found.test_evaluations) == (True, 2 * 4 * EPOCHS)
    (item,) = found.comparisons
    assert found.pairs == tuple(item.on_pairs) == ("small", "large")
    assert sum(item.on_pairs.values()) / 2 == pytest.approx(item.difference)
    for row in rows:
        for name in ("small", "large"):
            text = (
                confirmed_pairs / "sweeps" / "crash" / "trials" / f"{row['number']:04d}" / name / "config.yaml"
            ).read_text()
            assert "measure_on: test" in text
    shown = command("confirm", "crash", "--dry-run", "--root", confirmed_pairs)
    assert "the numbers below a pair have no verdict" in shown.out, shown.err
    told = json.loads(command("confirm", "crash", "--dry-run", "--json", "--root", confirmed_pairs).out)
    assert told == json.loads(json.dumps(asdict(found)))


def test_each_pair_is_exported_with_its_student(confirmed_pairs: Path, tmp_path: Path, command: Command) -> None:
    found, out = held(confirmed_pairs), tmp_path / "out"
    made = command("export", "crash", "-o", out, "--format", "pt2", "--json", "--root", confirmed_pairs)
    assert made.code == 0, made.err
    told, number = json.loads(made.out), found.arms[0].runs[0].trial
    assert (told["trial"], told["confirmed"], list(told["pairs"])) == (number, True, ["small", "large"])
    assert sorted(told["differences"]) == ["large/student.pt2", "small/student.pt2"]
    assert all(difference <= 1e-4 for difference in told["differences"].values())
    record = next(
        item for item in sweep_index.find(confirmed_pairs, "crash").records("confirm") if item.number == number
    )
    assert sorted(path.name for path in out.iterdir()) == ["large", "small"]
    for name in ("small", "large"):
        assert {path.name for path in (out / name).iterdir()} == {*EXPORTED, "student.pt2"}
        ours = read_trial(read_yaml(out / name / "best.yaml"))
        assert ours == read_trial(
            read_yaml(confirmed_pairs / "sweeps" / "crash" / "trials" / f"{number:04d}" / name / "config.yaml")
        )
        assert told["pairs"][name]["provenance"]["test/top1"] == f"{record.members[name]:.6g}"
        card = (out / name / "README.md").read_text()
        assert found.statement in card
        assert "icd train best.yaml --test\n" in card
        assert f"the student of the pair {name}: test/top1 {record.members[name]:.6g}, one seed" in card
    shown = command("export", "crash", "-o", out, "--format", "pt2", "--force", "--root", confirmed_pairs)
    assert f"train it again: icd train {out / 'large' / 'best.yaml'} --test\n" in shown.out
    refused = command("export", "crash", "-o", tmp_path / "best.yaml", "--root", confirmed_pairs)
    assert "-o must be a folder" in one_line(refused, 2, "USAGE")
    root = Path(shutil.copytree(confirmed_pairs, tmp_path / "root"))
    path = root / "sweeps" / "crash" / "trials" / f"{number:04d}" / "large" / "config.yaml"
    path.write_text(re.sub("^seed: [0-9]+", "seed: 7", path.read_text(), flags=re.MULTILINE))
    altered = command("export", "crash", "-o", tmp_path / "other", "--root", root)
    assert "belongs to another configuration" in one_line(altered, 6, "CHECKPOINT")
    assert not list((tmp_path / "other").glob("*"))


def test_the_common_setting_beside_the_own_one_of_a_pair(
    harness: Harness, undisturbed_pairs: Path, tmp_path: Path, command: Command
) -> None:
    root = tmp_path / "root"
    shutil.copytree(undisturbed_pairs, root)
    assert harness.drive(root, changes={**ONE, "name": "alone"}).wait() == 0, harness.errors
    said = command("compare", "--pairs", "crash", "alone", "--json", "--root", root)
    assert said.code == 0, said.err
    small, large = json.loads(said.out)["rows"]
    best = min(records(root), key=lambda record: (record.rank, -record.values[0], record.number))
    alone = sweep_index.find(root, "alone").records()
    top = max(record.values[0] for record in alone)
    assert (small["pair"], small["common"], small["own"]) == ("small", best.members["small"], top)
    assert small["difference"] == small["common"] - top
    assert (small["sweep"], small["trials"]) == ("alone", 3)
    assert (large["pair"], large["own"], large["difference"]) == ("large", None, None)
    page = command("compare", "--pairs", "crash", "alone", "--root", root)
    assert "one seed" in page.out
    assert "validation images" in page.out
    assert (
        "The best value of crash is the mean of several pairs"
        in command("compare", "crash", "alone", "--root", root).out
    )
    other = command("compare", "--pairs", "alone", "crash", "--root", root)
    assert "is not over several pairs" in one_line(other, 2, "USAGE")
