"""Students of every family as programs, which takes a minute."""

from pathlib import Path

import pytest

from icd.models import MODELS
from tests.unit.results.test_programs import check_programs

ARCHS = (
    "vgg8",
    "resnet8",
    "wrn_16_1",
    "mobilenetv2",
    "shufflenetv1",
    "shufflenetv2",
    "resnet18",
    "torchvision_resnet18",
)


@pytest.mark.parametrize("arch", ARCHS)
def test_a_program_says_what_the_network_says(arch: str, tmp_path: Path) -> None:
    check_programs(arch, tmp_path)


def test_every_family_is_tried() -> None:
    assert {MODELS[arch].family for arch in ARCHS} == {row.family for row in MODELS.values()}
