"""Whole sweeps with real drivers and workers: refusals, extensions, divergence, dead terms."""

import json
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from icd.search import session
from icd.search.core.records import best
from icd.search.study import sweep_index
from tests.command import Command
from tests.crash import harness as bare
from tests.crash.served import Harness, Hold, records
from tests.tiny import training, unpruned

LONG = unpruned(12, trials=2)


@pytest.fixture
def root(harness: Harness, tmp_path: Path) -> Path:
    return harness.root(tmp_path / "root")


@pytest.fixture(scope="module")
def undisturbed(harness: Harness, tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """The table of LONG when nothing happens to it."""
    root = harness.root(tmp_path_factory.mktemp("undisturbed") / "root")
    assert harness.drive(root, changes=LONG).wait() == 0
    return bare.table(root)


DEAD: dict[str, Any] = {
    "training": training(4),
    "method": {"scales": [1, 2, 4], "base_loss": "kd", "allow_repeated_cells": True},
    "ranges": {
        "cluster_weight": {"low": 1e-7, "high": 1e-6},
        "cluster_scale_weights": {"low": 0.1, "high": 1},
    },
    "enqueue": [],
    "pruner": "none",
    "budget": {"trials": 2},
}


def test_a_dead_term_is_shown_wherever_one_looks(harness: Harness, root: Path, command: Command) -> None:
    assert harness.drive(root, changes=DEAD).wait() == 0, harness.errors
    for record in records(root):
        (noted,) = record.attributes["dead_terms"]
        assert (record.state, noted["term"], noted["epoch"]) == ("complete", "cluster", 4)
        assert noted["value"] == record.params["method.cluster_weight"]
        assert noted["sentence"].endswith(": the searched cluster scale weights cannot matter")
    status = command("status", "crash", "--root", root)
    assert "cluster term, 2 of 2 trials: " in status.out, status.err
    (kind,) = json.loads(command("status", "crash", "--root", root, "--json").out)["dead_terms"]
    assert kind["trials"] == [0, 1]
    assert kind["sentence"] in status.out
    sentences = [record.attributes["dead_terms"][0]["sentence"] for record in records(root)]
    assert [f"trial {number}: {text}" for number, text in enumerate(sentences)] == (
        command("trials", "crash", "--root", root).out.splitlines()[-2:]
    )
    with sqlite3.connect(root / "mlflow.db") as database:
        tags = database.execute("select value from tags where key = 'dead_terms' order by value").fetchall()
        measured = database.execute("select distinct key from metrics where key like 'train/gradient%'").fetchall()
    assert [text for (text,) in tags] == sorted(sentences)
    shown = {f"train/gradient_{what}/{term}" for what in ("norm", "share") for term in ("ce", "base", "cluster")}
    assert {key for (key,) in measured} == shown | {f"train/gradient_cosine/{term}" for term in ("base", "cluster")}


def test_a_trial_that_diverges_is_recorded_and_never_best(harness: Harness, root: Path) -> None:
    changes = {
        "ranges": {"training": {"lr": {"choices": [0.05, 1e30]}}, "cluster_weight": {"low": 0.5, "high": 64}},
        "method": {"scales": [1, 2], "base_loss": "kd"},
        "sampler": {"name": "tpe", "startup_trials": 3},
        "budget": {"trials": 7},
        "pruner": "none",
        "enqueue": [],
    }
    drive = harness.drive(root, changes=changes)
    assert drive.wait() == 0, drive.errors
    found = records(root)
    diverged = [record for record in found if record.attributes.get("exit_reason") == "diverged"]
    assert len(found) == 7
    assert diverged
    for record in diverged:
        assert record.state == "pruned"
        assert "must be finite" in record.reason
        assert "epoch 1, step" in record.reason
        assert record.curve == {0: 50.0}, "chance level of two classes"
        assert f"trial {record.number}: diverged: loss term" in drive.said
    complete = {record.number for record in found if record.state == "complete"}
    assert complete == {record.number for record in found} - {record.number for record in diverged}
    assert max(complete) > min(record.number for record in diverged), "the sampler went on"
    winner = best(found, maximize=True)
    assert winner is not None
    assert winner.number in complete
    assert not [fault for fault in bare.tracking_faults(root, []) if "RUNNING" in fault or "twice" in fault]


def test_the_second_of_two_drivers_is_refused_at_once(
    root: Path, harness: Harness, undisturbed: list[dict[str, Any]]
) -> None:
    hold = Hold(root, 0, 2)
    first = harness.drive(root, changes=LONG)
    with hold.reached(first):
        second = harness.drive(root, changes=LONG)
        assert second.wait() == 5
    assert f"STATE: sweep 'crash' is driven by pid {first.pid} on " in second.errors
    assert first.wait() == 0
    assert bare.table(root) == undisturbed


def test_a_changed_configuration_is_refused_with_what_changed(root: Path, harness: Harness) -> None:
    assert harness.drive(root, changes={**LONG, "budget": {"trials": 1}}).wait() == 0
    space = {**bare.SWEEP["ranges"], "cluster_weight": {"low": 0.5, "high": 32, "log": True}}
    changed = harness.drive(root, changes={**LONG, "budget": {"trials": 1}, "ranges": space})
    assert changed.wait() == 5
    assert "sweep 'crash' was begun with another configuration; undo, or choose another name" in changed.errors
    assert "method.cluster_weight.high: 64" in changed.errors
    assert "-> 32" in changed.errors
    assert len(records(root)) == 1


def test_extend_allows_a_larger_budget_from_then_on(
    root: Path, harness: Harness, undisturbed: list[dict[str, Any]]
) -> None:
    assert harness.drive(root, changes={**LONG, "budget": {"trials": 1}}).wait() == 0
    refused = harness.drive(root, changes=LONG)
    assert refused.wait() == 5
    assert "--extend takes the one that is asked for: search.budget.trials: 1 -> 2" in refused.errors
    assert harness.drive(root, changes=LONG, extend=True).wait() == 0
    assert bare.table(root) == undisturbed
    ledger = sweep_index.find(root, "crash")
    assert session.stored_sweep(ledger).budget.trials == 2, "what icd resume reads"
    assert harness.drive(root, changes=LONG).wait() == 0


def test_a_dead_term_ends_a_trial_whoever_drives(harness: Harness, root: Path, tmp_path: Path) -> None:
    changes = {**DEAD, "pruner": {"dead_terms": True, "min_epochs": 2, "control_fraction": 0}}
    assert harness.drive(root, changes=changes).wait() == 0, harness.errors
    expected = bare.table(root)
    assert [(row["state"], max(row["curve"]), row["exit_reason"]) for row in expected] == [("pruned", 2, "pruned")] * 2
    reasons = [record.reason for record in records(root)]
    assert all(reason.startswith("dead term: cluster ") for reason in reasons)
    killed = harness.root(tmp_path / "killed")
    drive = harness.drive(killed, changes=changes)
    drive.until_epoch(0, 2)
    drive.signal()
    drive.wait()
    assert harness.drive(killed, changes=changes).wait() == 0, drive.errors
    assert bare.table(killed) == expected
    assert [record.reason for record in records(killed)] == reasons
    assert bare.tracking_faults(killed, expected) == []
