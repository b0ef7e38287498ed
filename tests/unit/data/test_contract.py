from collections.abc import Callable
from pathlib import Path

import pytest

from icd.config.training import PRESETS
from icd.data import DATASETS, Split
from icd.data.views import VIEW_FAMILIES
from icd.testing import DATASET_CHECKS, VIEWS_CHECKS, Check
from icd.testing.data import DatasetCase, the_row_knows_the_classes
from tests.data_contract import twin


@pytest.fixture(params=list(DATASETS.own))
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def load(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], Split]:
    return twin(name, tmp_path, monkeypatch)


@pytest.mark.parametrize("check", DATASET_CHECKS, ids=lambda check: check.__name__)
def test_public_check(name: str, load: Callable[[], Split], check: Check[DatasetCase]) -> None:
    few = check is the_row_knows_the_classes and DATASETS[name].num_classes is not None and name != "digits100"
    if not few:  # twins of CIFAR have three classes
        check(DatasetCase(name, load))


def test_default_views_are_those_of_the_preset(name: str) -> None:
    row = DATASETS[name]
    ((family, fields),) = PRESETS[row.preset]["augmentation"].items()
    assert VIEW_FAMILIES[family](**fields) == row.augmentation
    assert row.summary.isascii()


@pytest.mark.parametrize("check", VIEWS_CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("family", ["crop_flip", "rotate_flip", "none"])  # the others show files only
def test_public_check_of_views(family: str, check: Check[object]) -> None:
    check(VIEW_FAMILIES[family](size=32))
