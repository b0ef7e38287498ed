"""The ids of a table's runs, asked of a real store: there, not told yet, away, silent."""

import socket
from pathlib import Path

import pytest
from mlflow import MlflowClient

from icd.results.benchmark import entries
from icd.results.benchmark_table import read_benchmark, with_run_ids
from icd.search.study.sweep_study import LIST_NUMBERS
from icd.search.tracking.mlflow_client import run_ids
from tests.command import Command
from tests.tables import confirmed, document, searched


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("ICD_STORAGE_URL", "MLFLOW_TRACKING_URI"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("ICD_ROOT", str(tmp_path))
    return tmp_path


def test_every_value_has_its_run_s_id(command: Command, root: Path) -> None:
    found = entries(document())[:2]
    for entry in found:
        confirmed(searched(root, entry), {101: 60.0, 102: 61.0})
    assert command("sync", "my_table.KD").code == 0
    table = with_run_ids(read_benchmark("my_table", found, root), root)
    kd, sd_kd = table.cells
    client = MlflowClient(tracking_uri=f"sqlite:///{root / 'mlflow.db'}")
    assert [client.get_run(run).data.tags["icd.trial"] for run in kd.mlflow_runs] == [
        f"uidKD/{LIST_NUMBERS + place}" for place in (0, 1)
    ]
    assert sd_kd.mlflow_runs == ("", "")
    assert table.untracked == "MLflow has not been told of all of them, see 'icd sync NAME'"
    assert command("sync", "my_table.SD-KD").code == 0
    whole = with_run_ids(table, root)
    assert whole.untracked == ""
    assert len({run for cell in whole.cells for run in cell.mlflow_runs}) == 4


def test_a_store_that_is_away_or_silent_is_no_reason_to_wait() -> None:
    ids, why = run_ids("http://127.0.0.1:9", {"x": "f00d"}, "confirm", wait_s=30)
    assert ids == {}
    assert why.startswith("http://127.0.0.1:9: ")
    with socket.create_server(("127.0.0.1", 0)) as silent:
        uri = f"http://127.0.0.1:{silent.getsockname()[1]}"
        assert run_ids(uri, {"x": "f00d"}, "confirm", wait_s=0.2) == ({}, f"{uri} did not answer within 0.2 s")
