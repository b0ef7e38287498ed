"""A root that was moved or copied: MLflow's files go with it, and the old place is left alone."""

import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from icd.results.exports.export import Exported
from icd.results.exports.registry import register
from icd.search.tracking.mlflow_client import connect
from tests.tracking import ended, send

UID = "0123456789abcdef"


def registered(root: Path, number: int) -> str:
    file = root / "sweeps" / "s" / f"{number}.bin"
    file.write_bytes(b"weights")
    ledger: Any = SimpleNamespace(name="s", attributes={"uid": UID})
    written = Exported(
        trial=number, confirmed=False, config=file, weights=file, provenance={"status": ""}, files=[file]
    )
    made = register(root, ledger, written, "m", "best")
    return str(connect(f"sqlite:///{root}/mlflow.db").get_model_version_by_alias("m", "best").source) + made.run_id[:0]


def sent(root: Path, number: int) -> None:
    """Tell MLflow of a trial with a file."""
    folder = root / "sweeps" / "s"
    (folder / "trials" / f"{number:04d}").mkdir(parents=True)
    (folder / "trials" / f"{number:04d}" / "log.txt").write_text(f"{number}")
    view = ended(number, artifacts=(f"trials/{number:04d}/log.txt",))
    assert send(folder, f"sqlite:///{root}/mlflow.db", [view], experiment="s", uid=UID, deadline_s=120) == 0


@pytest.mark.parametrize("how", ["moved", "copied"])
def test_artifacts_are_found_and_written_where_the_root_is_now(how: str, tmp_path: Path) -> None:
    old, new = tmp_path / "old", tmp_path / "new place"
    (old / "sweeps" / "s").mkdir(parents=True)
    sent(old, 0)
    assert registered(old, 0).startswith(f"file://{old}/")
    shutil.copytree(old, new)
    if how == "moved":
        shutil.rmtree(old)
    before = sorted(old.rglob("*"))
    sent(new, 1)
    client = connect(f"sqlite:///{new}/mlflow.db")
    source = client.get_model_version_by_alias("m", "best").source
    assert registered(new, 1).startswith((new / "mlartifacts").as_uri())
    assert source is not None
    assert source.startswith((new / "mlartifacts").as_uri())
    (experiment,) = client.search_experiments(filter_string="name = 's'")
    for run in client.search_runs([experiment.experiment_id]):
        number = int(run.data.tags["icd.trial"].rpartition("/")[2])
        assert Path(client.download_artifacts(run.info.run_id, "log.txt")).read_text() == str(number)
        assert run.info.artifact_uri.startswith((new / "mlartifacts").as_uri())
    assert len(list(new.glob("mlartifacts/*/*/artifacts/log.txt"))) == 2
    assert sorted(old.rglob("*")) == before
