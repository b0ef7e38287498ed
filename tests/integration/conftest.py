"""Sweeps that a test drives itself have workers which need not import torch; those of other drivers do it."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.studies import Study, usual
from tests.support.forked_workers import launch_forked


@pytest.fixture(scope="session", autouse=True)
def forked_workers() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("icd.search.session.launch_python", launch_forked)
        yield


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A root of its own, which commands use unless they are told another; everything else is at its defaults."""
    for name in ("ICD_STORAGE_URL", "MLFLOW_TRACKING_URI", "ICD_DATA"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("ICD_ROOT", str(tmp_path / "root"))
    return tmp_path / "root"


@pytest.fixture
def study(root: Path) -> Study:
    """A sweep with trials of every kind, in that root."""
    return usual(root)
