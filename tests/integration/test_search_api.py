"""The functions for Python and the scripts for ``ray job submit``; nothing is trained."""

import runpy
import subprocess
import sys
from pathlib import Path

import pytest

import icd
from icd import results, search
from icd.errors import StateError
from icd.search.study.locks import driver_lock, is_driven
from tests.studies import Study, changed, usual

JOBS = Path(icd.__file__).parents[1] / "jobs"


@pytest.fixture
def study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Study:
    monkeypatch.delenv("ICD_STORAGE_URL", raising=False)
    monkeypatch.setenv("ICD_ROOT", str(tmp_path))
    return usual(tmp_path)


def test_reading(study: Study, tmp_path: Path) -> None:
    assert search.status("by-hand") == search.status("by-hand", root=tmp_path) == search.all_status()[0]
    assert search.status("by-hand").counts["complete"] == 2
    assert [record.number for record in search.trials("by-hand")] == list(range(6))
    assert results.best("by-hand").number == 1
    assert results.export("by-hand", tmp_path / "best.yaml", unconfirmed=True).trial == 1
    assert study.folder == search.status("by-hand").folder


@pytest.mark.usefixtures("study")
def test_rows_have_equal_keys() -> None:
    rows = search.trial_rows("by-hand")
    assert len({tuple(row) for row in rows}) == 1
    assert list(rows[0])[:3] == ["number", "state", "val/top1"]
    assert (rows[1]["val/top1"], rows[2]["val/top1"], rows[0]["params_method.cluster_weight"]) == (50, None, None)


def test_no_best(tmp_path: Path) -> None:
    Study(tmp_path)
    with pytest.raises(StateError, match="has run all its epochs"):
        results.best("by-hand", root=tmp_path)


def test_stop(study: Study) -> None:
    with pytest.raises(StateError, match="nobody"):
        search.stop("by-hand")
    with driver_lock(study.folder):
        assert search.stop("by-hand", now=True).startswith("pid ")
    assert (study.folder / "stop").read_text() == "now"


def test_who_asks_is_not_taken_for_a_driver(study: Study) -> None:
    with driver_lock(study.folder):
        assert is_driven(study.folder)
    import fcntl

    with (study.folder / "driver.lock").open() as file:  # as another 'icd status' would
        fcntl.flock(file, fcntl.LOCK_SH)
        assert not is_driven(study.folder)
    assert not is_driven(study.folder / "nowhere")


def test_plan_from_a_mapping(tmp_path: Path) -> None:
    plan = search.plan(changed(), ["search.budget.trials=4"], name="other", root=tmp_path / "root")
    assert (plan.name, plan.trials, plan.paces) == ("other", 4, {})
    assert not (tmp_path / "root").exists()


@pytest.mark.parametrize("module", ["icd.search", "icd.cli.main"])
def test_importing_is_light(module: str) -> None:
    code = f"import sys, {module}; sys.exit(' '.join({{'torch', 'optuna', 'ray', 'mlflow'}} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], cwd=JOBS.parent, capture_output=True, text=True, check=False)
    assert done.stderr == "\n"


def test_reading_verbs_wait_for_no_torch() -> None:
    code = "import sys, icd.cli.look; sys.exit(' '.join({'torch', 'ray', 'mlflow'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], cwd=JOBS.parent, capture_output=True, text=True, check=False)
    assert done.stderr == "\n"


@pytest.mark.parametrize(
    ("job", "words", "code", "text"),
    [
        ("sweep", ["none.yaml"], 2, "none.yaml"),
        ("resume", ["by-hnad"], 5, "did you mean 'by-hand'?"),
        ("sync", ["by-hnad"], 5, "did you mean 'by-hand'?"),
    ],
)
@pytest.mark.usefixtures("study")
def test_jobs(
    job: str,
    words: list[str],
    code: int,
    text: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(sys, "argv", [f"{job}.py", *words])
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(JOBS / f"{job}.py"))
    assert ended.value.code == code
    assert text in capsys.readouterr().err
