"""Networks of timm against the public checks; each is of another family."""

import sys
from collections.abc import Iterator

import pytest
import torch

from icd.errors import ConfigError, SetupError
from icd.models import MODELS, build_model, feature_size
from icd.models.timm_nets import TimmNetwork, timm_row
from icd.testing import MODEL_CHECKS, ModelCase, failures

pytest.importorskip("timm")

# How the map of each is read, and the size of images: small networks of eleven families.
NETWORKS = {
    "test_resnet": ("channels_first", 64),
    "test_vit": ("pooled", 64),
    "test_convnext": ("pooled", 64),
    "test_efficientnet": ("channels_first", 64),
    "test_byobnet": ("channels_first", 64),
    "test_nfnet": ("channels_first", 64),
    "resnet10t": ("channels_first", 32),
    "mobilenetv3_small_050": ("pooled", 32),
    "lcnet_050": ("pooled", 32),
    "regnetx_002": ("channels_first", 32),
    "mobilevit_xxs": ("channels_first", 64),
    "mixer_s32_224": ("tokens", 224),
}


@pytest.fixture(autouse=True)
def single_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("name", NETWORKS)
def test_public_checks(name: str) -> None:
    reader, size = NETWORKS[name]
    network = build_model(f"timm:{name}", num_classes=4, stem="own", seed=0)
    assert isinstance(network, TimmNetwork)
    assert network.reader == reader
    assert failures(MODEL_CHECKS, ModelCase(f"timm:{name}", "own", (size,))) == []


def test_a_network_whose_map_is_not_linear_in_its_logits_has_one_cell() -> None:
    assert feature_size("timm:test_vit", "own", 64) == (64, 1, 1)
    assert feature_size("timm:test_resnet", "own", 64) == (96, 2, 2)


def test_names_that_timm_does_not_know() -> None:
    assert "timm:test_resnet" in MODELS
    assert "timm:resnet10" not in MODELS
    with pytest.raises(ConfigError, match="did you mean 'timm:resnet10t'"):
        build_model("timm:resnet10", num_classes=4, stem="own")


def test_without_timm_one_line_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(SetupError, match=r"timm:resnet26 needs timm, which is missing: pip install '.\[timm\]'"):
        timm_row("resnet26")
    assert SetupError.exit_code == 3


def test_weights_that_cannot_be_had(monkeypatch: pytest.MonkeyPatch, tmp_path: object) -> None:
    import huggingface_hub.constants as constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(SetupError, match="the published weights of timm:resnet10t cannot be had: "):
        build_model("timm:resnet10t", num_classes=4, stem="own", pretrained=True, seed=0)


def test_a_network_without_a_linear_classifier_is_refused() -> None:
    with pytest.raises(ConfigError, match="must have one linear classifier, but has tuple"):
        build_model("timm:levit_128s", num_classes=4, stem="own", seed=0)
