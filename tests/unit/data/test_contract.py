from collections.abc import Callable
from pathlib import Path

import pytest

from icd.config.training import PRESETS
from icd.data import DATASETS, Split
from icd.data.views import VIEW_FAMILIES
from tests.data_contract import DatasetContract, twin


@pytest.fixture(params=list(DATASETS))
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def load(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], Split]:
    return twin(name, tmp_path, monkeypatch)


class TestDatasetContract(DatasetContract):
    def test_default_views_are_those_of_the_preset(self, name: str) -> None:
        row = DATASETS[name]
        ((family, fields),) = PRESETS[row.preset]["augmentation"].items()
        assert VIEW_FAMILIES[family](**fields) == row.augmentation
