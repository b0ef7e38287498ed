"""What a sweep refuses before it starts anything."""

from dataclasses import replace
from pathlib import Path

import pytest

from icd.config.read_sweep import read_sweep
from icd.config.sweep import Budget, Resources
from icd.config.yaml import read_yaml
from icd.errors import SetupError
from icd.fields import FieldError
from icd.search import run_sweep
from icd.search.core.preparation import PreflightResult
from icd.search.session import _check_fit
from icd.search.settings import Settings

FILE = Path(__file__).parents[3] / "search_spaces" / "quickstart.yaml"


def test_a_store_that_mlflow_no_longer_takes_is_refused_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "./mlruns")
    settings = Settings(root=tmp_path, executor="process")
    with pytest.raises(SetupError, match=r"try sqlite:////FOLDER/mlflow\.db"):
        run_sweep.run(read_sweep(read_yaml(FILE)), read_yaml(FILE).data, settings)
    assert not (tmp_path / "study.db").exists()
    assert not list(tmp_path.glob("sweeps/*/logs"))


def test_gpu_hours_alone_need_gpus() -> None:
    sweep = replace(read_sweep(read_yaml(FILE)), budget=Budget(gpu_hours=1.0))
    prepared = PreflightResult(data_digest="", num_classes=2, teachers={}, device="cpu")
    with pytest.raises(SetupError, match=r"budget\.gpu_hours: must not be the only limit"):
        _check_fit(sweep, prepared)
    _check_fit(sweep, replace(prepared, gpus=1))
    _check_fit(replace(sweep, budget=Budget(gpu_hours=1.0, hours=1.0)), prepared)


@pytest.mark.parametrize("gpus", [1.5, 2])
def test_a_trial_takes_one_gpu_at_most(gpus: float) -> None:
    with pytest.raises(FieldError, match="0 <= gpus_per_trial <= 1 must hold"):
        Resources(gpus_per_trial=gpus)


@pytest.mark.parametrize("gpus", [None, 0.0, 0.25, 1.0])
def test_other_numbers_of_gpus_are_fine(gpus: float | None) -> None:
    assert Resources(gpus_per_trial=gpus).gpus_per_trial == gpus
