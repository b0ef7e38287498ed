"""Every network with every stem against the contract."""

import pytest

from icd.models import MODELS
from tests.model_contract import Case, ModelContract, network, outputs

__all__ = ["network", "outputs"]  # fixtures


@pytest.fixture(
    scope="module",
    params=[(arch, stem) for arch, row in MODELS.items() for stem in row.stems],
    ids=lambda case: "-".join(case),
)
def case(request: pytest.FixtureRequest) -> Case:
    arch, stem = request.param
    return arch, stem


class TestModels(ModelContract):
    pass
