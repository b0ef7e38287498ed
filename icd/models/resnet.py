"""ResNets: three layers as for CIFAR, thin, four times as wide (x4) or pre-activation (wrn); four of ImageNet's widths.

Source: He et al., CVPR 2016 (arXiv 1512.03385), section 4.2 and table 1; Zagoruyko and Komodakis, BMVC 2016 (arXiv
1605.07146), table 1, without dropout. Names, the 1x1 shortcut and the x4 widths follow the distillation code of Tian et
al. (RepDistiller).

Deviation: with four layers the entrance is 3x3 without pooling, and the stride sits on the 3x3 convolution of a
bottleneck, not on its first 1x1 as in the paper. ``conv7x7_s2`` is the authors' for the x4 networks and ResNet50, and
ours, after these, for all others; the authors' Wide ResNets do not run at 224 pixels.
"""

from collections import OrderedDict
from collections.abc import Callable, Iterator
from functools import partial

from torch import Tensor, nn
from torch.nn import functional as F

from icd.models.layers import NormedConvs, SequentialNetwork, conv, conv_bn_relu, he_init, stacked, stem_conv
from icd.models.output import Stem


class ResidualBlock(NormedConvs):
    """Convolutions with a ReLU after each but the last, and a shortcut; a ReLU of the sum.

    Args:
        convolutions: One of them strides.
        stride: Theirs; the shortcut is a 1x1 convolution and a batch norm where the shape changes, else nothing.
        shortcut: Its name.
    """

    def __init__(self, *convolutions: nn.Conv2d, stride: int, shortcut: str) -> None:
        super().__init__(*convolutions)
        width_in, width_out = convolutions[0].in_channels, convolutions[-1].out_channels
        fitted: list[nn.Module] = []
        if stride > 1 or width_in != width_out:
            fitted = [conv(width_in, width_out, 1, stride=stride), nn.BatchNorm2d(width_out)]
        self.add_module(shortcut, nn.Sequential(*fitted))
        self.num_convs, self.shortcut_name = len(convolutions), shortcut

    def forward(self, images_BCHW: Tensor) -> Tensor:
        hidden = images_BCHW
        for number in range(1, self.num_convs):
            hidden = self.activated(number, hidden)
        return F.relu_(self.normed(self.num_convs, hidden) + getattr(self, self.shortcut_name)(images_BCHW))


def basic_block(width_in: int, width_out: int, stride: int, *, shortcut: str) -> ResidualBlock:
    """Make a block of two 3x3 convolutions, the first with the stride."""
    convs = conv(width_in, width_out, 3, stride=stride), conv(width_out, width_out, 3)
    return ResidualBlock(*convs, stride=stride, shortcut=shortcut)


def bottleneck(width_in: int, width_out: int, stride: int, *, shortcut: str) -> ResidualBlock:
    """Make a block of 1x1 to a quarter of the width, 3x3 with the stride, and 1x1 to the width."""
    width = width_out // 4
    convs = conv(width_in, width, 1), conv(width, width, 3, stride=stride), conv(width, width_out, 1)
    return ResidualBlock(*convs, stride=stride, shortcut=shortcut)


def build(
    num_classes: int,
    stem: Stem,
    *,
    blocks: tuple[int, ...],
    widths: tuple[int, ...],
    block: Callable[..., ResidualBlock] = basic_block,
    head: str = "fc",
    shortcut: str = "downsample",
) -> SequentialNetwork:
    """Build stem, layers of blocks, each but the first with stride 2, and head.

    Args:
        num_classes: K.
        stem: First layers.
        blocks: Blocks in each layer.
        widths: Channels of the stem and of each layer.
        block: Makes a block of width in, width out and stride.
        head: Its name in the published checkpoints.
        shortcut: That of the shortcuts.
    """
    children = conv_bn_relu(stem_conv(stem, widths[0]))
    layers = _layers(partial(block, shortcut=shortcut), widths, blocks)
    children |= {f"layer{number}": layer for number, layer in enumerate(layers, 1)}
    children[head] = nn.Linear(widths[-1], num_classes)
    network = SequentialNetwork(children, head=head)
    he_init(network)
    return network


class PreactivationBlock(nn.Module):
    """Batch norm and ReLU before each of two 3x3 convolutions, plus a shortcut.

    Where the width changes, the shortcut is a 1x1 convolution of the activated input; elsewhere it is the raw input.
    """

    def __init__(self, width_in: int, width_out: int, stride: int) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(width_in)
        self.conv1 = conv(width_in, width_out, 3, stride=stride)
        self.bn2 = nn.BatchNorm2d(width_out)
        self.conv2 = conv(width_out, width_out, 3)
        # The published checkpoints spell the name this way.
        self.convShortcut = conv(width_in, width_out, 1, stride=stride) if width_in != width_out else None

    def forward(self, images_BCHW: Tensor) -> Tensor:
        activated = F.relu_(self.bn1(images_BCHW))
        shortcut = images_BCHW if self.convShortcut is None else self.convShortcut(activated)
        residual: Tensor = self.conv2(F.relu_(self.bn2(self.conv1(activated))))
        return residual + shortcut


def build_wide(num_classes: int, stem: Stem, *, depth: int, factor: int) -> SequentialNetwork:
    """Build stem, three groups of ``(depth - 4) / 6`` blocks, a last batch norm and ReLU, and head ``fc``.

    ``features`` come after that last ReLU; ``block``, which SP compares, before the batch norm.

    Args:
        num_classes: K.
        stem: First layers.
        depth: 6n + 4.
        factor: Multiplies the widths 16, 32 and 64 of the groups.
    """
    assert depth % 6 == 4, depth
    children: dict[str, nn.Module] = {"conv1": stem_conv(stem, 16)}
    groups = _layers(PreactivationBlock, (16, 16 * factor, 32 * factor, 64 * factor), 3 * ((depth - 4) // 6,))
    for number, group in enumerate(groups, 1):
        children[f"block{number}"] = nn.Sequential(OrderedDict(layer=group))
    children |= {"bn1": nn.BatchNorm2d(64 * factor), "relu": nn.ReLU(inplace=True)}
    network = SequentialNetwork({**children, "fc": nn.Linear(64 * factor, num_classes)}, block="block3")
    he_init(network)
    nn.init.zeros_(network.head.bias)
    return network


def _layers(
    block: Callable[[int, int, int], nn.Module], widths: tuple[int, ...], blocks: tuple[int, ...]
) -> Iterator[nn.Sequential]:
    """Make a layer from each width to the next; each but the first has stride 2."""
    for number, (width_in, width_out, count) in enumerate(zip(widths[:-1], widths[1:], blocks, strict=True)):
        yield stacked(block, width_in, width_out, count, stride=2 if number else 1)
