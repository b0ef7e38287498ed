"""Teachers and students: the table ``MODELS``, a builder, and the size of a network's features.

To add a network, write what builds it in the file of its family and add a row here; the contract tests take every row.
"""

from functools import partial

from icd.errors import ConfigError, Problem, did_you_mean
from icd.models import mobilenetv2, resnet, shufflenet, torchvision_nets, vgg
from icd.models.layers import halvings
from icd.models.output import Network, Output, Stem
from icd.models.row import ModelRow
from icd.models.seeding import initial_weights
from icd.models.timm_nets import timm_names, timm_row
from icd.registry import Registry, Source

__all__ = ["MODELS", "ModelRow", "Network", "Output", "Stem", "build_model", "feature_size"]

_THIN, _X4 = (16, 16, 32, 64), (32, 64, 128, 256)  # widths of CIFAR ResNets
_FOUR_LAYERS = partial(resnet.build, head="linear", shortcut="shortcut")


def _resnet(depth: int, widths: tuple[int, ...], summary: str) -> ModelRow:
    build = partial(resnet.build, widths=widths, blocks=((depth - 2) // 6,) * 3)
    return ModelRow(build, "resnet", halvings(widths[-1], 2), summary)


def _wrn(depth: int, factor: int, summary: str) -> ModelRow:
    build = partial(resnet.build_wide, depth=depth, factor=factor)
    return ModelRow(build, "wide_resnet", halvings(64 * factor, 2), summary)


def _vgg(convs: tuple[int, int, int, int, int], summary: str) -> ModelRow:
    return ModelRow(partial(vgg.VGG, convs=convs), "vgg", vgg.features, summary)


def _torchvision(name: str, channels: int, summary: str) -> ModelRow:
    build = partial(torchvision_nets.build, name=name)
    pretrained = partial(build, pretrained=True)
    return ModelRow(
        build, "torchvision", halvings(channels, 5), summary, ("conv7x7_s2_pool",), build_pretrained=pretrained
    )


# Millions of parameters are those with 100 classes and the conv3x3 stem, for torchvision with 1000 classes.
_ROWS = {
    "resnet8": _resnet(8, _THIN, "CIFAR ResNet, 1 block per layer, 0.08 M parameters"),
    "resnet14": _resnet(14, _THIN, "CIFAR ResNet, 2 blocks per layer, 0.18 M parameters"),
    "resnet20": _resnet(20, _THIN, "CIFAR ResNet, 3 blocks per layer, 0.28 M parameters"),
    "resnet32": _resnet(32, _THIN, "CIFAR ResNet, 5 blocks per layer, 0.47 M parameters"),
    "resnet44": _resnet(44, _THIN, "CIFAR ResNet, 7 blocks per layer, 0.67 M parameters"),
    "resnet56": _resnet(56, _THIN, "CIFAR ResNet, 9 blocks per layer, 0.86 M parameters"),
    "resnet110": _resnet(110, _THIN, "CIFAR ResNet, 18 blocks per layer, 1.74 M parameters"),
    "resnet8x4": _resnet(8, _X4, "four times as wide, 1 block per layer, 1.23 M parameters"),
    "resnet32x4": _resnet(32, _X4, "four times as wide, 5 blocks per layer, 7.43 M parameters"),
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
        mobilenetv2.build,
        "mobilenetv2",
        mobilenetv2.features,
        "half width, 0.81 M parameters",
        paper_name="MobileNetV2",
    ),
    "shufflenetv1": ModelRow(
        shufflenet.version_1, "shufflenetv1", halvings(960, 3), "3 groups, 0.95 M parameters", paper_name="ShuffleV1"
    ),
    "shufflenetv2": ModelRow(
        shufflenet.version_2, "shufflenetv2", halvings(1024, 3), "width 1, 1.36 M parameters", paper_name="ShuffleV2"
    ),
    "resnet18": ModelRow(
        partial(_FOUR_LAYERS, blocks=(2, 2, 2, 2), widths=(64, 64, 128, 256, 512)),
        "four_stage_resnet",
        halvings(512, 3),
        "ImageNet widths for small images, basic blocks, 11.22 M parameters",
        paper_name="ResNet18",
    ),
    "resnet50": ModelRow(
        partial(_FOUR_LAYERS, block=resnet.bottleneck, blocks=(3, 4, 6, 3), widths=(64, 256, 512, 1024, 2048)),
        "four_stage_resnet",
        halvings(2048, 3),
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
        raise _refusal("num_classes", "num_classes >= 1 must hold", num_classes)
    build = row.build_pretrained if pretrained else row.build
    if build is None:
        raise _refusal("pretrained", f"must be false for {arch}, which has no published ImageNet weights", True)
    with initial_weights(seed):
        return build(num_classes, stem)


def feature_size(arch: str, stem: Stem, image_size: int) -> tuple[int, int, int]:
    """Give channels, height and width of a network's features for a square image, without building the network.

    Computed from strides, because a pass on torch's meta device first imports several seconds' worth of modules.

    Raises:
        ConfigError: If there is no such network, or not with this stem, or nothing is left of so small an image.
    """
    size = _row(arch, stem).features(stem, image_size)
    if min(size) < 1:
        raise _refusal("image_size", f"must leave a feature map at the end of {arch}", image_size)
    return size


def _row(arch: str, stem: str) -> ModelRow:
    row = MODELS.get(arch)
    if row is None:
        hint = did_you_mean(arch, tuple(MODELS.like(arch)))
        raise _refusal("arch", "must be a known network", arch, hint)
    if stem not in row.stems:
        raise _refusal("stem", f"must be a stem of {arch}", stem, did_you_mean(stem, row.stems))
    return row


def _refusal(path: str, rule: str, value: object, hint: str = "") -> ConfigError:
    return ConfigError(Problem(path=path, rule=rule, value=value, hint=hint))
