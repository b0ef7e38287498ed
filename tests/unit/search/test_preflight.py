"""What a sweep refuses before it starts anything."""

from pathlib import Path

import pytest

from icd.config.read_sweep import load_sweep
from icd.config.sweep import Resources
from icd.config.yaml import read_yaml
from icd.errors import SetupError
from icd.fields import FieldError
from icd.search import sweeps

FILE = Path(__file__).parents[3] / "search_spaces" / "quickstart.yaml"


def test_a_store_that_mlflow_no_longer_takes_is_refused_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "./mlruns")
    settings = sweeps.Settings(root=tmp_path, executor="process")
    with pytest.raises(SetupError, match=r"try sqlite:///mlflow\.db"):
        sweeps.run(load_sweep(FILE), read_yaml(FILE).data, settings)
    assert not (tmp_path / "study.db").exists()
    assert not list(tmp_path.glob("sweeps/*/logs"))


@pytest.mark.parametrize("gpus", [1.5, 2.25])
def test_a_trial_takes_a_part_of_one_gpu_or_whole_ones(gpus: float) -> None:
    with pytest.raises(FieldError, match="at most 1 or a whole number"):
        Resources(gpus_per_trial=gpus)


@pytest.mark.parametrize("gpus", [None, 0.0, 0.25, 1.0, 2.0])
def test_other_numbers_of_gpus_are_fine(gpus: float | None) -> None:
    assert Resources(gpus_per_trial=gpus).gpus_per_trial == gpus
