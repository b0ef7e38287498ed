"""Tables and ablations that really train, stopped and killed: nothing is lost, and nothing finished is repeated."""

import shutil
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from icd.config.yaml import Document
from icd.results.benchmark import entries
from icd.results.benchmark_table import Table, read_benchmark
from icd.results.read_outcome import outcome_of
from icd.search.core.records import Stage, TrialRecord
from icd.search.study import sweep_index
from icd.search.study.sweep_study import LIST_NUMBERS, list_number
from tests.crash import verbs
from tests.crash.served import Harness, Hold, alive

KD, SD_KD = "table.KD", "table.SD-KD"
STAGES: tuple[Stage, ...] = ("search", "confirm", "ablate")


@pytest.fixture(scope="module")
def harness(tmp_path_factory: pytest.TempPathFactory) -> Harness:
    return Harness(Path(verbs.__file__), ICD_TEACHER_CACHE=str(tmp_path_factory.mktemp("cache")))


@pytest.fixture(scope="module")
def images(harness: Harness) -> str:
    return str(harness.fresh.parent / "images.npz")


@pytest.fixture(scope="module")
def undisturbed(harness: Harness, images: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A root with a table that nobody disturbed."""
    root = harness.root(tmp_path_factory.mktemp("undisturbed") / "root")
    drive = harness.drive(root, table=images)
    assert drive.wait() == 0, drive.errors + drive.said
    return root


def table_of(root: Path, images: str) -> Table:
    """Give a table without what differs from one undisturbed run to the next: ids, and seconds of training."""
    found = read_benchmark("table", entries(Document(verbs.table_document(images), "table.yaml")), root)
    return replace(found, cells=tuple(replace(cell, hours=0.0, runs=()) for cell in found.cells))


def records_of(root: Path, sweep: str, stage: Stage) -> list[TrialRecord]:
    return sweep_index.find(root, sweep).records(stage)


def outcomes(root: Path, sweep: str, stage: Stage) -> list[Any]:
    """What must not depend on what happened to the drivers."""
    return [
        (record.number, record.state, record.values, record.curve, record.key, record.attributes.get("student_sha256"))
        for record in records_of(root, sweep, stage)
    ]


def finished(root: Path) -> dict[Path, int]:
    """When every finished run's result was written."""
    return {path: path.stat().st_mtime_ns for path in root.glob("sweeps/table.*/trials/*/result.json")}


def attempts(root: Path) -> int:
    names = [path.name for path in root.glob("sweeps/table.*")]
    return sum(record.attempts for name in names for stage in STAGES for record in records_of(root, name, stage))


def interrupt(harness: Harness, root: Path, number: int, **what: str) -> None:
    """Interrupt a driver in the first epoch of a trial of the second row."""
    hold = Hold(root, number, 1, SD_KD)
    drive = harness.drive(root, **what)
    with hold.reached(drive):
        drive.interrupt(sweep=SD_KD)
    assert drive.wait() == 128 + signal.SIGINT, drive.errors


def kill(harness: Harness, root: Path, number: int, **what: str) -> None:
    """Kill a driver in the last epoch of a trial of the second row."""
    hold = Hold(root, number, 2, SD_KD)
    drive = harness.drive(root, **what)
    with hold.reached(drive):
        workers = drive.workers
        drive.signal(signal.SIGKILL)
    assert drive.wait() == -signal.SIGKILL
    drive.until(lambda: not any(map(alive, workers)))


def test_a_table_that_is_stopped_and_killed(harness: Harness, undisturbed: Path, images: str, tmp_path: Path) -> None:
    root = harness.root(tmp_path / "root")
    interrupt(harness, root, 0, table=images)
    kept = finished(root)
    assert len(kept) >= 4  # all of the first row: two trials and two seeds
    assert not table_of(root, images).finished

    kill(harness, root, LIST_NUMBERS, table=images)  # the first run of its confirmation
    assert len(finished(root)) > len(kept)
    kept |= finished(root)

    last = harness.drive(root, table=images)
    assert last.wait() == 0, last.errors
    assert {path: time for path, time in finished(root).items() if path in kept} == kept
    table = table_of(root, images)
    assert table == table_of(undisturbed, images)
    assert table.finished
    assert {cell.arm.n for cell in table.cells} == {verbs.SEEDS}
    for sweep in (KD, SD_KD):
        for stage in ("search", "confirm"):
            assert outcomes(root, sweep, stage) == outcomes(undisturbed, sweep, stage)
    assert attempts(root) - attempts(undisturbed) <= 2  # only what was under way began another time

    said = last.said.count("row ")
    again = harness.drive(root, table=images)
    assert again.wait() == 0
    assert again.said.count("row ") == said  # nothing is left to do


def test_an_ablation_that_is_stopped_and_killed(harness: Harness, undisturbed: Path, tmp_path: Path) -> None:
    calm, root = (Path(shutil.copytree(undisturbed, tmp_path / name)) for name in ("calm", "root"))
    whole = harness.drive(calm, ablate=SD_KD)
    assert whole.wait() == 0, whole.errors
    expected = outcome_of(sweep_index.find(calm, SD_KD), "ablate")
    assert expected is not None
    assert expected.finished
    begin = LIST_NUMBERS * list_number("ablate", 1)

    interrupt(harness, root, begin + 1, ablate=SD_KD)
    kept = finished(root)
    kill(harness, root, begin + 4, ablate=SD_KD)
    assert len(finished(root)) > len(kept)
    kept |= finished(root)
    last = harness.drive(root, ablate=SD_KD)
    assert last.wait() == 0, last.errors
    assert {path: time for path, time in finished(root).items() if path in kept} == kept
    assert outcome_of(sweep_index.find(root, SD_KD), "ablate") == expected
    assert outcomes(root, SD_KD, "ablate") == outcomes(calm, SD_KD, "ablate")
    assert attempts(root) - attempts(calm) <= 2

    # Its trials measure validation images and never look at test images.
    for record in records_of(root, SD_KD, "ablate"):
        folder = root / "sweeps" / SD_KD / "trials" / f"{record.number:04d}"
        assert '"val/top1"' in (folder / "metrics.jsonl").read_text()
        assert '"test/' not in (folder / "metrics.jsonl").read_text() + (folder / "result.json").read_text()
        assert not list(folder.glob("**/test_looks.jsonl"))
