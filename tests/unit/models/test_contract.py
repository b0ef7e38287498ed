"""Every network with every stem against the public checks, and against what the package asks of its own."""

import pytest
import torch

from icd.models import MODELS, Stem
from icd.testing import MODEL_CHECKS, Check, ModelCase
from icd.testing.models import network_of, outputs_of, random_images

# 36 leaves remainders, so that it shows how layers round; 224 is dear, so one network of each family does it.
SIZES = (32, 36, 64)
LARGE = 224


def is_first_of_its_family(arch: str, stem: Stem) -> bool:
    family = MODELS[arch].family
    return (arch, stem) == next((name, s) for name, row in MODELS.items() if row.family == family for s in row.stems)


def case_of(arch: str, stem: Stem) -> ModelCase:
    return ModelCase(arch, stem, (32, 36, *([LARGE] if is_first_of_its_family(arch, stem) else []), 64))


@pytest.fixture(
    scope="module",
    params=[case_of(arch, stem) for arch, row in MODELS.own.items() for stem in row.stems],
    ids=lambda case: f"{case.arch}-{case.stem}",
)
def case(request: pytest.FixtureRequest) -> ModelCase:
    found: ModelCase = request.param
    return found


@pytest.mark.parametrize("check", MODEL_CHECKS, ids=lambda check: check.__name__)
def test_public_check(case: ModelCase, check: Check[ModelCase]) -> None:
    check(case)


def test_features_are_not_negative(case: ModelCase) -> None:
    for size, output in outputs_of(case).items():
        assert output.features_BCHW.min() >= 0, size
        assert output.features_BCHW.max() > 0, size


def test_the_head_has_its_published_name_only(case: ModelCase) -> None:
    assert not [name for name in network_of(case).state_dict() if name.startswith("head")]


def test_features_stay_channels_last(case: ModelCase) -> None:
    network = network_of(case).to(memory_format=torch.channels_last)
    with torch.inference_mode():
        arranged = network(random_images(64).to(memory_format=torch.channels_last))
    assert arranged.features_BCHW.is_contiguous(memory_format=torch.channels_last)
