"""The table, the builder and what the published networks fix: sizes, parameter counts, names."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from icd.errors import ConfigError
from icd.models import MODELS, Stem, build_model, feature_size

STATE_KEYS = Path(__file__).parents[2] / "golden" / "authors" / "arch_state_keys.json"

# methods.md 4.2, and RepDistiller's count for ResNet18
CIFAR_PARAMETERS = {
    "resnet8x4": 1_233_540,
    "resnet32x4": 7_433_860,
    "resnet20": 278_324,
    "resnet32": 472_756,
    "resnet56": 861_620,
    "resnet110": 1_736_564,
    "vgg8": 3_965_028,
    "vgg13": 9_462_180,
    "mobilenetv2": 812_836,
    "shufflenetv1": 949_258,
    "shufflenetv2": 1_355_528,
    "wrn_16_2": 703_284,
    "wrn_40_1": 569_780,
    "wrn_40_2": 2_255_156,
    "resnet18": 11_220_132,
    "resnet50": 23_705_252,
}
CUB_PARAMETERS = {
    "resnet32x4": 7_463_400,
    "resnet8x4": 1_263_080,
    "vgg13": 9_513_480,
    "vgg8": 4_016_328,
    "mobilenetv2": 942_856,
    "shufflenetv1": 1_048_814,
    "resnet50": 23_917_832,
}
CIFAR_FEATURES = {
    "resnet32x4": (256, 8, 8),
    "resnet20": (64, 8, 8),
    "vgg13": (512, 4, 4),
    "mobilenetv2": (1280, 2, 2),
    "shufflenetv1": (960, 4, 4),
    "shufflenetv2": (1024, 4, 4),
    "wrn_16_2": (128, 8, 8),
    "wrn_40_1": (64, 8, 8),
    "resnet50": (2048, 4, 4),
}
CUB_FEATURES = {
    "resnet32x4": (256, 28, 28),
    "vgg13": (512, 28, 28),
    "mobilenetv2": (1280, 7, 7),
    "shufflenetv1": (960, 14, 14),
    "shufflenetv2": (1024, 14, 14),
    "resnet50": (2048, 14, 14),
}


def parameter_count(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


@pytest.mark.parametrize(("arch", "expected"), CIFAR_PARAMETERS.items())
def test_cifar_network_has_the_published_number_of_parameters(arch: str, expected: int) -> None:
    assert parameter_count(build_model(arch, num_classes=100)) == expected


@pytest.mark.parametrize(("arch", "expected"), CUB_PARAMETERS.items())
def test_cub_network_has_the_published_number_of_parameters(arch: str, expected: int) -> None:
    assert parameter_count(build_model(arch, num_classes=200, stem="conv7x7_s2")) == expected


@pytest.mark.parametrize(("arch", "expected"), CIFAR_FEATURES.items())
def test_features_of_a_cifar_image_have_the_published_size(arch: str, expected: tuple[int, int, int]) -> None:
    assert feature_size(arch, "conv3x3", 32) == expected


@pytest.mark.parametrize(("arch", "expected"), CUB_FEATURES.items())
def test_features_of_a_cub_image_have_the_published_size(arch: str, expected: tuple[int, int, int]) -> None:
    assert feature_size(arch, "conv7x7_s2", 224) == expected


def test_state_dicts_have_the_names_and_shapes_of_the_published_checkpoints() -> None:
    keys = {row.paper_name or arch: arch for arch, row in MODELS.items()}
    classes = {"cifar": 100, "cub": 200}
    stems: dict[str, Stem] = {"cifar": "conv3x3", "cub": "conv7x7_s2"}
    for case, expected in json.loads(STATE_KEYS.read_text()).items():
        _, dataset, paper_name = case.split("_", 2)  # a name of the authors
        network = build_model(keys[paper_name], num_classes=classes[dataset], stem=stems[dataset])
        assert [[name, list(tensor.shape)] for name, tensor in network.state_dict().items()] == expected, case


@pytest.mark.parametrize(
    ("arch", "channels"),
    [("shufflenetv2", 464), ("mobilenetv2", 160), ("torchvision_mobilenet_v2", 320)],
)
def test_block_is_the_map_before_the_last_convolution(arch: str, channels: int) -> None:
    network = build_model(arch, num_classes=3, stem=MODELS[arch].stems[0]).eval()
    output = network(torch.zeros(1, 3, 32, 32))
    assert output.block_BCHW.shape == (1, channels, *output.features_BCHW.shape[2:])


def test_block_of_a_wide_resnet_is_the_map_before_the_last_batch_norm() -> None:
    output = build_model("wrn_16_1", num_classes=3, seed=0).eval()(torch.randn(1, 3, 32, 32))
    # A fresh batch norm in eval mode divides by sqrt(1 + eps) only.
    torch.testing.assert_close(output.features_BCHW, output.block_BCHW.relu() / (1 + 1e-5) ** 0.5)


@pytest.mark.parametrize("arch", ["resnet8", "vgg8", "shufflenetv1", "resnet50"])
def test_block_of_other_networks_is_their_features(arch: str) -> None:
    output = build_model(arch, num_classes=3).eval()(torch.zeros(1, 3, 32, 32))
    assert output.block_BCHW is output.features_BCHW


def test_number_of_classes_changes_the_head_only() -> None:
    few, many = (build_model("resnet8", num_classes=k, seed=3).state_dict() for k in (5, 9))
    assert [name for name in few if few[name].shape != many[name].shape] == ["fc.weight", "fc.bias"]


def test_another_seed_gives_other_weights() -> None:
    first, second = (build_model("resnet8", num_classes=5, seed=seed).state_dict() for seed in (0, 1))
    assert not torch.equal(first["conv1.weight"], second["conv1.weight"])


def test_seeded_weights_do_not_depend_on_the_default_device() -> None:
    expected = build_model("resnet8", num_classes=5, seed=3).state_dict()
    with torch.device("meta"):
        weights = build_model("resnet8", num_classes=5, seed=3).state_dict()
    assert all(torch.equal(weights[name], expected[name]) for name in expected)


def test_unseeded_weights_come_from_the_global_generator() -> None:
    torch.manual_seed(5)
    first = build_model("resnet8", num_classes=5).state_dict()
    second = build_model("resnet8", num_classes=5).state_dict()
    assert not torch.equal(first["conv1.weight"], second["conv1.weight"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"arch": "resnet9"}, "arch: must be a known network, but got 'resnet9'; did you mean 'resnet8'?"),
        ({"arch": "VGG8"}, "arch: must be a known network, but got 'VGG8'; did you mean 'vgg8'?"),
        (
            {"arch": "vgg8", "stem": "conv7x7_s2_pool"},
            "stem: must be a stem of vgg8, but got 'conv7x7_s2_pool'; did you mean 'conv7x7_s2'?",
        ),
        ({"arch": "vgg8", "num_classes": 0}, "num_classes: num_classes >= 1 must hold, but got 0"),
        (
            {"arch": "vgg8", "pretrained": True},
            "pretrained: must be false for vgg8, which has no published ImageNet weights, but got True",
        ),
    ],
)
def test_impossible_network_is_refused_by_name(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        build_model(**{"num_classes": 10, **arguments})  # type: ignore[arg-type]
    assert str(caught.value) == message


def test_image_too_small_for_the_network_is_refused() -> None:
    with pytest.raises(ConfigError, match="image_size: must leave a feature map at the end of vgg8, but got 7"):
        feature_size("vgg8", "conv3x3", 7)


def test_import_and_feature_size_do_not_import_torchvision() -> None:
    code = (
        "import sys, icd.models; icd.models.feature_size('torchvision_resnet50', 'conv7x7_s2_pool', 224); "
        "sys.exit('torchvision' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
