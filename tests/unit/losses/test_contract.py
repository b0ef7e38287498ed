"""Every base loss, and the other settings of those with a switch, against the contract."""

import pytest

from icd.losses import BASE_LOSSES, BaseLoss, LocalRelations, NormalizedKD
from tests.loss_contract import BaseLossContract

# A new row of BASE_LOSSES says here whether it vanishes where student equals teacher.
ZERO_AT_EQUALITY = {"kd": True, "dkd": True, "nkd": False, "ldrld": True}

CASES: dict[str, tuple[str, BaseLoss]] = {name: (name, cls()) for name, cls in BASE_LOSSES.items()} | {
    "nkd-corrected": ("nkd", NormalizedKD(temperature=4.0, keep_target=False)),
    "ldrld-k2": ("ldrld", LocalRelations(k=2)),
    "ldrld-k8": ("ldrld", LocalRelations(k=8)),
    "ldrld-k9": ("ldrld", LocalRelations(k=9)),
}


@pytest.fixture(params=CASES)
def row(request: pytest.FixtureRequest) -> tuple[str, BaseLoss]:
    return CASES[request.param]


@pytest.fixture
def loss(row: tuple[str, BaseLoss]) -> BaseLoss:
    return row[1]


@pytest.fixture
def zero_at_equality(row: tuple[str, BaseLoss]) -> bool:
    return ZERO_AT_EQUALITY[row[0]]


class TestBaseLosses(BaseLossContract):
    pass


def test_every_row_is_named_here() -> None:
    assert set(ZERO_AT_EQUALITY) == set(BASE_LOSSES)
