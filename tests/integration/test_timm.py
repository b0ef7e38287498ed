"""A ViT of timm teaches a network of timm and one of ours, in a sweep over students."""

from pathlib import Path

import pytest

from icd import search
from tests.tiny import training, write_images

pytest.importorskip("timm")


def test_a_vit_teaches_a_network_of_timm_and_one_of_ours(tmp_path: Path) -> None:
    document = {
        "name": "vit",
        "data": {"name": "npz", "path": str(write_images(tmp_path / "images.npz"))},
        "teacher": {"arch": "timm:vit_tiny_patch16_224", "training": training(1)},
        "student": {"choices": ["timm:resnet10t", "resnet8", "mobilenetv2"]},
        "method": "KD",
        "training": training(1),
        "search": {"sampler": "grid"},
    }
    result = search.sweep(document, root=tmp_path / "root", executor="process")
    assert [record.state for record in result.records] == ["complete"] * 3
    assert sorted(record.params["student"] for record in result.records) == ["mobilenetv2", "resnet8", "timm:resnet10t"]
