"""Confirmations that really train: paired, and the same whatever happens to drivers and workers."""

import json
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

from icd.results.confirm import confirmation_of
from icd.search import studies
from icd.trial.checkpoint import weights_digest
from tests.confirming import outcome
from tests.crash import harness as bare
from tests.crash.served import Drive, Harness, alive

pytestmark = pytest.mark.integration

# One scale has nothing to cluster, so that these two differ in a weight that multiplies nothing.
ALONE = {"scales": [1], "base_loss": "kd"}
SEARCH: dict[str, Any] = {
    "enqueue": [
        {"label": "one", "method": {**ALONE, "cluster_weight": 1}},
        {"label": "two", "method": {**ALONE, "cluster_weight": 2}},
    ],
    "pruner": "none",
    "budget": {"trials": 3},
}
ASKED: dict[str, Any] = {"top": 1, "seeds": 3, "against": ["one", "two"]}
RUNS = 9


@pytest.fixture(scope="module")
def harness(tmp_path_factory: pytest.TempPathFactory) -> Harness:
    return Harness(ICD_TABLES=str(tmp_path_factory.mktemp("tables")))


@pytest.fixture(scope="module")
def searched(harness: Harness, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A root with a sweep that is over."""
    root = harness.root(tmp_path_factory.mktemp("searched") / "root")
    assert harness.drive(root, changes=SEARCH).wait() == 0, harness.errors
    return root


@pytest.fixture
def root(searched: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(searched, tmp_path / "root"))


@pytest.fixture(scope="module")
def undisturbed(harness: Harness, searched: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A root whose confirmation nobody disturbed."""
    root = Path(shutil.copytree(searched, tmp_path_factory.mktemp("undisturbed") / "root"))
    assert confirm(harness, root).wait() == 0, harness.errors
    return root


def confirm(harness: Harness, root: Path, **more: Any) -> Drive:
    return harness.drive(root, changes=SEARCH, confirm=ASKED, **more)


def held(root: Path) -> Any:
    found = confirmation_of(studies.find(root, "crash"))
    assert found is not None
    return found


def weights_of(root: Path, number: int) -> str:
    """Digest of a student's weights."""
    path = root / "sweeps" / "crash" / "trials" / f"{number:04d}" / "student.safetensors"
    return weights_digest(load_file(path))


def check(root: Path, expected: Path, kills: int) -> None:
    """A confirmation says what the undisturbed one says, and nothing was lost or done twice on the way."""
    assert bare.table(root, "confirm") == bare.table(expected, "confirm")
    assert outcome(held(root)) == outcome(held(expected))
    assert bare.tracking_faults(root, bare.table(root) + bare.table(root, "confirm")) == []
    # The answer to an epoch comes while the next is under way: a stop may give up one that reached its last step.
    assert sum(bare.repeated_epochs(root).values()) <= kills
    written = json.loads((root / "sweeps" / "crash" / "confirmation.json").read_text())
    assert written == json.loads(json.dumps(held(root).to_data()))


def test_a_confirmation_is_paired_and_kept(undisturbed: Path, searched: Path) -> None:
    assert bare.table(undisturbed) == bare.table(searched), "the search stays as it was"
    found, rows = held(undisturbed), bare.table(undisturbed, "confirm")
    assert [row["state"] for row in rows] == ["complete"] * RUNS
    digests = {(row["arm"], row["seed"]): weights_of(undisturbed, row["number"]) for row in rows}
    for seed in (101, 102, 103):
        assert digests["one", seed] == digests["two", seed], "equal weights, order and views, and an equal loss"
    assert len({digests["one", seed] for seed in (101, 102, 103)}) == 3
    assert len({row["key"] for row in rows}) == RUNS
    assert (found.looks, found.finished, len(found.versus)) == (2 * RUNS, True, 2)
    assert all(len(arm.runs) == 3 for arm in found.arms)
    check(undisturbed, undisturbed, kills=0)


def test_runs_stand_beside_those_of_the_search_in_mlflow(undisturbed: Path) -> None:
    with sqlite3.connect(undisturbed / "mlflow.db") as database:
        rows = database.execute(
            "select r.experiment_id, t.value, r.status from runs r join tags t on t.run_uuid = r.run_uuid "
            "where t.key = 'stage'"
        ).fetchall()
        tags = dict(database.execute("select key, value from tags where key in ('winner', 'confirmed')").fetchall())
        looks = database.execute("select value from latest_metrics where key = 'confirm/test_looks'").fetchall()
    assert len({experiment for experiment, *_ in rows}) == 1
    assert sorted(stage for _, stage, _ in rows) == ["confirm"] * RUNS + ["search"] * 3
    assert {status for *_, status in rows} == {"FINISHED"}
    found = held(undisturbed)
    assert tags == {"winner": found.winner, "confirmed": found.statement}
    assert looks == [(2.0 * RUNS,)]


@pytest.mark.parametrize("point", [3, 90])
def test_a_driver_that_dies_at_a_durable_operation(root: Path, harness: Harness, undisturbed: Path, point: int) -> None:
    assert confirm(harness, root, crash_at=point).wait() == bare.CRASHED
    again = confirm(harness, root)
    assert again.wait() == 0, again.errors
    check(root, undisturbed, kills=1)


def test_kills_at_random_moments(root: Path, harness: Harness, undisturbed: Path) -> None:
    chance, kills = random.Random(1), 0
    while kills < 5:
        drive = confirm(harness, root)
        moment, code = time.monotonic() + chance.uniform(0.2, 1.5), None
        while code is None and time.monotonic() < moment:
            code = harness.server.ask(poll=drive.pid)
        if code is not None:
            assert code == 0, drive.errors
            break
        workers = drive.workers
        os.kill(chance.choice([drive.pid, *workers[:1]]), signal.SIGKILL)
        kills += 1
        code = drive.wait()
        if code == 0:
            break
        assert code == -signal.SIGKILL, drive.errors
        drive.until(lambda left=workers: not [worker for worker in left if alive(worker)])
    assert confirm(harness, root).wait() == 0
    assert kills
    check(root, undisturbed, kills=kills)


def test_a_signal_leaves_something_to_go_on_with(root: Path, harness: Harness, undisturbed: Path) -> None:
    drive = confirm(harness, root)
    first = len(bare.table(root))
    drive.until_epoch(first + 1, 1)
    drive.signal(signal.SIGINT)
    assert drive.wait() == 128 + signal.SIGINT, drive.errors
    left = held(root)
    assert not left.finished
    assert left.arm("one").runs or left.arms[0].runs
    kept = [row for row in bare.table(root, "confirm") if row["state"] == "complete"]
    again = harness.drive(root, changes=SEARCH, confirm={})
    assert again.wait() == 0, again.errors
    assert bare.table(root, "confirm")[: len(kept)] == kept
    check(root, undisturbed, kills=1)


def test_another_driver_and_another_request_are_refused(root: Path, harness: Harness, undisturbed: Path) -> None:
    first = confirm(harness, root)
    first.until(lambda: (root / "sweeps" / "crash" / "trials" / "0003").exists())
    assert confirm(harness, root).wait() == 5
    assert harness.drive(root, changes=SEARCH).wait() == 5, "the search's driver too"
    assert first.wait() == 0
    assert harness.drive(root, changes=SEARCH, confirm={**ASKED, "seeds": 4}).wait() == 5
    assert "was begun otherwise; undo, or add --anew" in harness.errors
    check(root, undisturbed, kills=0)


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_the_command_on_ray(root: Path, undisturbed: Path) -> None:
    pytest.importorskip("ray")
    words = ["confirm", "crash", "--top", "1", "--seeds", "2", "--against", "one,two", "--root", str(root), "--json"]
    environment = {**os.environ, "PYTHONPATH": str(bare.ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-m", "icd.cli.main", *words], capture_output=True, text=True, check=False, env=environment
    )
    assert done.returncode == 0, done.stderr[-3000:]
    told = json.loads(done.stdout)
    assert told == json.loads(json.dumps(held(root).to_data()))
    assert (told["finished"], told["looks"], told["winner"]) == (True, 2 * 6, held(undisturbed).winner)
    rows, expected = bare.table(root, "confirm"), bare.table(undisturbed, "confirm")
    by_run = {(row["arm"], row["seed"]): row["values"] for row in expected}
    assert len(rows) == 6
    assert all(row["values"] == by_run[row["arm"], row["seed"]] for row in rows)
    assert bare.tracking_faults(root, bare.table(root) + rows) == []
    folders = [root / "sweeps" / "crash" / "trials" / f"{row['number']:04d}" for row in rows]
    assert {path.name for folder in folders for path in folder.glob("*.png")} == {"curves.png"}, (
        "no test image is shown"
    )
