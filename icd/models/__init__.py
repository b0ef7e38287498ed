"""Teachers and students: the table ``MODELS``, a builder, and the size of a network's features.

To add a network, write its class in the file of its family and add a row here; the contract tests take every row.
"""

from functools import partial

import torch

from icd.errors import ConfigError, Problem, did_you_mean
from icd.models import (
    four_stage_resnet,
    mobilenetv2,
    resnet,
    shufflenetv1,
    shufflenetv2,
    torchvision_nets,
    vgg,
    wide_resnet,
)
from icd.models.four_stage_resnet import BasicBlock, Bottleneck, FourStageResNet
from icd.models.mobilenetv2 import MobileNetV2
from icd.models.output import Network, Output, Stem
from icd.models.resnet import ResNet
from icd.models.row import Builder, ModelRow
from icd.models.seeding import initial_weights
from icd.models.shufflenetv1 import ShuffleNetV1
from icd.models.shufflenetv2 import ShuffleNetV2
from icd.models.timm_nets import timm_names, timm_row
from icd.models.torchvision_nets import build_mobilenet_v2, build_resnet
from icd.models.vgg import VGG
from icd.models.wide_resnet import WideResNet
from icd.registry import Registry, Source

__all__ = ["MODELS", "ModelRow", "Network", "Output", "Stem", "build_model", "feature_size"]


_SMALL: tuple[Stem, ...] = ("conv3x3", "conv7x7_s2")


def _thin(depth: int, summary: str) -> ModelRow:
    return ModelRow(partial(ResNet, depth=depth), 64, resnet.feature_side, _SMALL, "resnet", summary)


def _x4(depth: int, summary: str) -> ModelRow:
    build = partial(ResNet, depth=depth, widths=(32, 64, 128, 256))
    return ModelRow(build, 256, resnet.feature_side, _SMALL, "resnet", summary)


def _wrn(depth: int, factor: int, summary: str) -> ModelRow:
    build = partial(WideResNet, depth=depth, factor=factor)
    return ModelRow(build, 64 * factor, wide_resnet.feature_side, _SMALL, "wide_resnet", summary)


def _vgg(convs: tuple[int, int, int, int, int], summary: str) -> ModelRow:
    return ModelRow(partial(VGG, convs=convs), 512, vgg.feature_side, _SMALL, "vgg", summary)


def _torchvision(name: str, channels: int, summary: str) -> ModelRow:
    build = build_mobilenet_v2 if name == "mobilenet_v2" else partial(build_resnet, name=name)
    return ModelRow(
        build,
        channels,
        torchvision_nets.feature_side,
        ("conv7x7_s2_pool",),
        "torchvision",
        summary,
        build_pretrained=partial(build, pretrained=True),
    )


# Millions of parameters are those with 100 classes and the conv3x3 stem, for torchvision with 1000 classes.
_ROWS = {
    "resnet8": _thin(8, "CIFAR ResNet, 1 block per layer, 0.08 M parameters"),
    "resnet14": _thin(14, "CIFAR ResNet, 2 blocks per layer, 0.18 M parameters"),
    "resnet20": _thin(20, "CIFAR ResNet, 3 blocks per layer, 0.28 M parameters"),
    "resnet32": _thin(32, "CIFAR ResNet, 5 blocks per layer, 0.47 M parameters"),
    "resnet44": _thin(44, "CIFAR ResNet, 7 blocks per layer, 0.67 M parameters"),
    "resnet56": _thin(56, "CIFAR ResNet, 9 blocks per layer, 0.86 M parameters"),
    "resnet110": _thin(110, "CIFAR ResNet, 18 blocks per layer, 1.74 M parameters"),
    "resnet8x4": _x4(8, "four times as wide, 1 block per layer, 1.23 M parameters"),
    "resnet32x4": _x4(32, "four times as wide, 5 blocks per layer, 7.43 M parameters"),
    "wrn_16_1": _wrn(16, 1, "Wide ResNet, depth 16, factor 1, 0.18 M parameters"),
    "wrn_16_2": _wrn(16, 2, "Wide ResNet, depth 16, factor 2, 0.70 M parameters"),
    "wrn_40_1": _wrn(40, 1, "Wide ResNet, depth 40, factor 1, 0.57 M parameters"),
    "wrn_40_2": _wrn(40, 2, "Wide ResNet, depth 40, factor 2, 2.26 M parameters"),
    "vgg8": _vgg((1, 1, 1, 1, 1), "VGG with batch norm, 5 convolutions, 3.97 M parameters"),
    "vgg11": _vgg((1, 1, 2, 2, 2), "VGG with batch norm, 8 convolutions, 9.28 M parameters"),
    "vgg13": _vgg((2, 2, 2, 2, 2), "VGG with batch norm, 10 convolutions, 9.46 M parameters"),
    "vgg16": _vgg((2, 2, 3, 3, 3), "VGG with batch norm, 13 convolutions, 14.77 M parameters"),
    "vgg19": _vgg((2, 2, 4, 4, 4), "VGG with batch norm, 16 convolutions, 20.09 M parameters"),
    "mobilenetv2": ModelRow(
        MobileNetV2,
        1280,
        mobilenetv2.feature_side,
        _SMALL,
        "mobilenetv2",
        "half width, 0.81 M parameters",
        paper_name="MobileNetV2",
    ),
    "shufflenetv1": ModelRow(
        ShuffleNetV1,
        960,
        shufflenetv1.feature_side,
        _SMALL,
        "shufflenetv1",
        "3 groups, 0.95 M parameters",
        paper_name="ShuffleV1",
    ),
    "shufflenetv2": ModelRow(
        ShuffleNetV2,
        1024,
        shufflenetv2.feature_side,
        _SMALL,
        "shufflenetv2",
        "width 1, 1.36 M parameters",
        paper_name="ShuffleV2",
    ),
    "resnet18": ModelRow(
        partial(FourStageResNet, block=BasicBlock, blocks=(2, 2, 2, 2)),
        512,
        four_stage_resnet.feature_side,
        _SMALL,
        "four_stage_resnet",
        "ImageNet widths for small images, basic blocks, 11.22 M parameters",
        paper_name="ResNet18",
    ),
    "resnet50": ModelRow(
        partial(FourStageResNet, block=Bottleneck, blocks=(3, 4, 6, 3)),
        2048,
        four_stage_resnet.feature_side,
        _SMALL,
        "four_stage_resnet",
        "ImageNet widths for small images, bottlenecks, 23.71 M parameters",
        paper_name="ResNet50",
    ),
    "torchvision_resnet18": _torchvision("resnet18", 512, "ImageNet ResNet18, 11.69 M parameters"),
    "torchvision_resnet34": _torchvision("resnet34", 512, "ImageNet ResNet34, 21.80 M parameters"),
    "torchvision_resnet50": _torchvision("resnet50", 2048, "ImageNet ResNet50, 25.56 M parameters"),
    "torchvision_resnet101": _torchvision("resnet101", 2048, "ImageNet ResNet101, 44.55 M parameters"),
    "torchvision_resnet152": _torchvision("resnet152", 2048, "ImageNet ResNet152, 60.19 M parameters"),
    "torchvision_mobilenet_v2": _torchvision("mobilenet_v2", 1280, "ImageNet MobileNetV2, 3.50 M parameters"),
}
MODELS: Registry[ModelRow] = Registry("network", _ROWS, {"timm": Source(timm_row, timm_names)})


def build_model(
    arch: str, *, num_classes: int, stem: Stem = "conv3x3", pretrained: bool = False, seed: int | None = None
) -> Network:
    """Build a network of ``MODELS``.

    Args:
        arch: Key of ``MODELS``.
        num_classes: Number of logits, at least 1.
        stem: First layers; one of the row's ``stems``.
        pretrained: Load torchvision's default weights; a head of another size than theirs is new.
        seed: Makes the initial weights depend on nothing but these arguments, and leaves torch's global generator
            alone. None draws them from the global generator.

    Raises:
        ConfigError: If there is no such network, or not in this form.
        SetupError: If the pretrained weights cannot be had.
    """
    row = _row(arch, stem)
    if num_classes < 1:
        raise ConfigError(
            Problem(path="num_classes", rule="num_classes >= 1 must hold", value=num_classes, has_value=True)
        )
    build = _pretrained_builder(arch, row) if pretrained else row.build
    with initial_weights(seed):
        if seed is None:
            return build(num_classes, stem)
        with torch.device("cpu"):
            return build(num_classes, stem)


def feature_size(arch: str, stem: Stem, image_size: int) -> tuple[int, int, int]:
    """Give channels, height and width of a network's features for a square image, without building the network.

    Computed from strides, because a pass on torch's meta device first imports several seconds' worth of modules.

    Raises:
        ConfigError: If there is no such network, or not with this stem, or nothing is left of so small an image.
    """
    row = _row(arch, stem)
    side = row.side(stem, image_size)
    size = row.measure(stem, image_size) if row.measure else (row.channels, side, side)
    if min(size) < 1:
        raise ConfigError(
            Problem(
                path="image_size",
                rule=f"must leave a feature map at the end of {arch}",
                value=image_size,
                has_value=True,
            )
        )
    return size


def _row(arch: str, stem: str) -> ModelRow:
    row = MODELS.get(arch)
    if row is None:
        raise ConfigError(_unknown("arch", "must be a known network", arch, tuple(MODELS.like(arch))))
    if stem not in row.stems:
        raise ConfigError(_unknown("stem", f"must be a stem of {arch}", stem, row.stems))
    return row


def _pretrained_builder(arch: str, row: ModelRow) -> Builder:
    if row.build_pretrained is None:
        rule = f"must be false for {arch}, which has no published ImageNet weights"
        raise ConfigError(Problem(path="pretrained", rule=rule, value=True, has_value=True))
    return row.build_pretrained


def _unknown(path: str, rule: str, value: str, allowed: tuple[str, ...]) -> Problem:
    return Problem(path=path, rule=rule, value=value, has_value=True, hint=did_you_mean(value, allowed))
