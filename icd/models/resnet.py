"""ResNets: of three layers as for CIFAR, thin or four times as wide (x4), and of four layers of ImageNet's widths.

Source: He et al., CVPR 2016 (arXiv 1512.03385), section 4.2 and table 1; names, the 1x1 shortcut and the x4 widths
follow the distillation code of Tian et al. (RepDistiller).

Deviation: with four layers the entrance is 3x3 without pooling, and the stride sits on the 3x3 convolution of a
bottleneck, not on its first 1x1 as in the paper. ``conv7x7_s2`` is the authors' for the x4 networks and ResNet50, and
ours, after these, for all others.
"""

from collections.abc import Callable
from typing import ClassVar

from torch import Tensor, nn
from torch.nn import functional as F

from icd.models.layers import SequentialNetwork, conv, he_init, stacked, stem_conv
from icd.models.output import Stem


class BasicBlock(nn.Module):
    """Two 3x3 convolutions, the first with the stride, and a shortcut."""

    shortcut_name: ClassVar[str] = "downsample"

    def __init__(self, width_in: int, width_out: int, stride: int) -> None:
        super().__init__()
        self.conv1 = conv(width_in, width_out, 3, stride=stride)
        self.bn1 = nn.BatchNorm2d(width_out)
        self.conv2 = conv(width_out, width_out, 3)
        self.bn2 = nn.BatchNorm2d(width_out)
        self.add_module(self.shortcut_name, _shortcut(width_in, width_out, stride))

    def forward(self, images_BCHW: Tensor) -> Tensor:
        hidden = F.relu_(self.bn1(self.conv1(images_BCHW)))
        return F.relu_(self.bn2(self.conv2(hidden)) + getattr(self, self.shortcut_name)(images_BCHW))


class FourStageBlock(BasicBlock):
    """The same; these checkpoints have another name for the shortcut."""

    shortcut_name = "shortcut"


class Bottleneck(nn.Module):
    """1x1 to a quarter of the width, 3x3 with the stride, 1x1 to the width, and a shortcut."""

    def __init__(self, width_in: int, width_out: int, stride: int) -> None:
        super().__init__()
        width = width_out // 4
        self.conv1 = conv(width_in, width, 1)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = conv(width, width, 3, stride=stride)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = conv(width, width_out, 1)
        self.bn3 = nn.BatchNorm2d(width_out)
        self.shortcut = _shortcut(width_in, width_out, stride)

    def forward(self, images_BCHW: Tensor) -> Tensor:
        hidden = F.relu_(self.bn1(self.conv1(images_BCHW)))
        hidden = F.relu_(self.bn2(self.conv2(hidden)))
        return F.relu_(self.bn3(self.conv3(hidden)) + self.shortcut(images_BCHW))


class ResNet(SequentialNetwork):
    """Stem, layers of blocks, each but the first with stride 2, head ``fc``.

    Args:
        block: Makes a block of width in, width out and stride.
        blocks: Blocks in each layer.
        widths: Channels of the stem and of each layer.
    """

    def __init__(
        self,
        num_classes: int,
        stem: Stem,
        *,
        block: Callable[[int, int, int], nn.Module] = BasicBlock,
        blocks: tuple[int, ...],
        widths: tuple[int, ...],
    ) -> None:
        super().__init__()
        self.conv1 = stem_conv(stem, widths[0])
        self.bn1 = nn.BatchNorm2d(widths[0])
        self.relu = nn.ReLU(inplace=True)
        for number, (width_in, width, count) in enumerate(zip(widths[:-1], widths[1:], blocks, strict=True), 1):
            layer = stacked(block, width_in, width, count, stride=1 if number == 1 else 2)
            self.add_module(f"layer{number}", layer)
        self.add_module(self.head_name, nn.Linear(widths[-1], num_classes))
        he_init(self)


class FourStageResNet(ResNet):
    """The same; these checkpoints name the head ``linear``."""

    head_name = "linear"


def _shortcut(width_in: int, width_out: int, stride: int) -> nn.Sequential:
    """Match shape by a 1x1 convolution and batch norm; an empty sequence, which passes through, if it matches."""
    if stride == 1 and width_in == width_out:
        return nn.Sequential()
    return nn.Sequential(conv(width_in, width_out, 1, stride=stride), nn.BatchNorm2d(width_out))
