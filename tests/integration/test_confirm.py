"""Confirmations that really train: paired, and the same whatever happens to drivers and workers."""

import shutil
import sqlite3
from collections import Counter
from pathlib import Path

import pytest

from icd.results.outcome import Arm
from icd.results.run_plan import run_plan
from icd.search.settings import Settings
from icd.search.study.sweep_index import find
from icd.search.study.sweep_study import LIST_NUMBERS
from tests.crash import harness as bare
from tests.crash.served import Harness, Hold
from tests.support.confirmations import ASKED, RUNS, SEARCH, check, confirm, held, weights_of


@pytest.fixture
def root(searched: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(searched, tmp_path / "root"))


def test_a_confirmation_is_paired_and_kept(confirmed: Path, searched: Path) -> None:
    assert bare.table(confirmed) == bare.table(searched), "the search stays as it was"
    found, rows = held(confirmed), bare.table(confirmed, "confirm")
    assert [row["state"] for row in rows] == ["complete"] * RUNS
    digests = {(row["arm"], row["seed"]): weights_of(confirmed, row["number"]) for row in rows}
    seeds = sorted({row["seed"] for row in rows})
    for seed in seeds:
        assert digests["one", seed] == digests["two", seed], "equal weights, order and views, and an equal loss"
    assert len({digests["one", seed] for seed in seeds}) == len(seeds) == 3
    assert len({row["key"] for row in rows}) == RUNS
    assert (found.test_evaluations, found.finished, len(found.comparisons)) == (2 * RUNS, True, 2)
    assert all(len(arm.runs) == 3 for arm in found.arms)
    check(confirmed, confirmed, kills=0)


def spread(arm: Arm) -> list[tuple[str, float | None]]:
    return [("", arm.mean), ("/sd", arm.sd), ("/n", len(arm.runs))]


def test_runs_stand_beside_those_of_the_search_in_mlflow(confirmed: Path) -> None:
    with sqlite3.connect(confirmed / "mlflow.db") as database:
        rows = database.execute(
            "select r.experiment_id, t.value, r.status from runs r join tags t on t.run_uuid = r.run_uuid "
            "where t.key = 'stage'"
        ).fetchall()
        tags = dict(database.execute("select key, value from tags where key in ('winner', 'confirmed')").fetchall())
        looks = database.execute("select value from latest_metrics where key = 'confirm/test_evaluations'").fetchall()
        groups = Counter(database.execute("select value from tags where key = 'group'").fetchall())
        arms = database.execute(
            "select a.value, m.key, m.value from tags a join latest_metrics m on m.run_uuid = a.run_uuid "
            "where a.key = 'arm' and m.key in ('test/top1', 'test/top1/sd', 'test/top1/n')"
        ).fetchall()
    assert len({experiment for experiment, *_ in rows}) == 1
    assert sorted(stage for _, stage, _ in rows) == ["confirm"] * RUNS + ["confirm/1"] * 3 + ["search"] * 3
    assert {status for *_, status in rows} == {"FINISHED"}
    found = held(confirmed)
    assert find(confirmed, "crash").attributes["test_images"] == 24
    assert tags == {"winner": found.winner, "confirmed": found.statement}
    assert looks == [(2.0 * RUNS,)]
    assert groups == {("search",): 3, ("arms",): 3, **{(arm.label,): 3 for arm in found.arms}}
    shown = {(arm.label, f"test/top1{part}"): value for arm in found.arms for part, value in spread(arm)}
    assert {(label, metric): value for label, metric, value in arms} == shown


def test_another_driver_and_another_request_are_refused(root: Path, harness: Harness, confirmed: Path) -> None:
    hold = Hold(root, LIST_NUMBERS, 1)
    first = confirm(harness, root)
    with hold.reached(first):
        assert confirm(harness, root).wait() == 5
        assert harness.drive(root, changes=SEARCH).wait() == 5, "the search's driver too"
    assert first.wait() == 0
    assert harness.drive(root, changes=SEARCH, confirm={**ASKED, "seeds": 4}).wait() == 5
    assert "was begun otherwise; undo, or add --keep-seeds" in harness.errors
    check(root, confirmed, kills=0)


def test_a_race_is_run_once_and_opens_no_test_images(root: Path, harness: Harness) -> None:
    asked = {"top": 1, "seeds": 2, "against": ["one"], "race": 2}
    for _ in range(2):
        assert harness.drive(root, changes=SEARCH, confirm=asked).wait() == 0, harness.errors
    raced = bare.table(root, "race")
    assert [row["state"] for row in raced] == ["complete"] * 2, "the only trial that is no baseline, two seeds"
    assert len(bare.table(root, "confirm")) == 4
    assert len({row["seed"] for row in raced + bare.table(root, "confirm")}) == 4
    found = held(root)
    assert (found.raced, found.test_evaluations) == (2, 4 * 2)
    assert "Finalists were chosen among the best 2 trials with further seeds on validation images." in found.statement
    assert sum(bare.repeated_epochs(root).values()) == 0


def test_a_confirmation_that_is_finished_starts_nothing(
    confirmed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = Path(shutil.copytree(confirmed, tmp_path / "root"))
    monkeypatch.delattr("icd.search.session._executor")
    assert run_plan("confirm", "crash", Settings(root=root, executor="process")) == held(confirmed)
    check(root, confirmed, kills=0)
