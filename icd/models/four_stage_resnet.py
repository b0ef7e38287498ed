"""ResNets of ImageNet's widths for small images: four layers, a 3x3 entrance, no pooling at the entrance.

Source: He et al., CVPR 2016 (arXiv 1512.03385), table 1; names and structure follow RepDistiller, whose checkpoints
load unchanged. The stride sits on the 3x3 convolution of a bottleneck, not on its first 1x1 as in the paper.

Shape key:
    B: batch    C: channels    H, W: height, width    K: classes
"""

from torch import Tensor, nn
from torch.nn import functional as F

from icd.models.layers import classify, conv, halved, he_init, stem_conv
from icd.models.output import Network, Output, Stem


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut."""

    expansion = 1

    def __init__(self, width_in: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1 = conv(width_in, width, 3, stride=stride)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = conv(width, width, 3)
        self.bn2 = nn.BatchNorm2d(width)
        self.shortcut = _shortcut(width_in, width, stride)

    def forward(self, images_BCHW: Tensor) -> Tensor:
        hidden = F.relu_(self.bn1(self.conv1(images_BCHW)))
        return F.relu_(self.bn2(self.conv2(hidden)) + self.shortcut(images_BCHW))


class Bottleneck(nn.Module):
    """1x1, 3x3 with the stride, 1x1 to four times the width, and a shortcut."""

    expansion = 4

    def __init__(self, width_in: int, width: int, stride: int) -> None:
        super().__init__()
        width_out = width * self.expansion
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


class FourStageResNet(Network):
    """Stem, four layers of blocks of widths 64, 128, 256 and 512, head ``linear``.

    Args:
        num_classes: K.
        stem: First convolution: 3x3 for ``cifar``, 7x7 with stride 2 for ``cub`` (the authors' change for ResNet50;
            the same is ours for ResNet18).
        block: Kind of block; its ``expansion`` multiplies the width it gives.
        blocks: Blocks in each layer.
    """

    def __init__(
        self,
        num_classes: int,
        stem: Stem,
        *,
        block: type[BasicBlock] | type[Bottleneck],
        blocks: tuple[int, int, int, int],
    ) -> None:
        super().__init__()
        expansion = block.expansion
        self.conv1 = stem_conv(stem, 64)
        self.bn1 = nn.BatchNorm2d(64)
        self.layer1 = _layer(block, 64, 64, blocks[0], stride=1)
        self.layer2 = _layer(block, 64 * expansion, 128, blocks[1], stride=2)
        self.layer3 = _layer(block, 128 * expansion, 256, blocks[2], stride=2)
        self.layer4 = _layer(block, 256 * expansion, 512, blocks[3], stride=2)
        self.linear = nn.Linear(512 * expansion, num_classes)
        he_init(self)

    @property
    def head(self) -> nn.Linear:
        return self.linear

    def forward(self, images_BCHW: Tensor) -> Output:
        hidden = F.relu_(self.bn1(self.conv1(images_BCHW)))
        hidden = self.layer2(self.layer1(hidden))
        return classify(self.linear, self.layer4(self.layer3(hidden)))


def _shortcut(width_in: int, width_out: int, stride: int) -> nn.Sequential:
    """Match shape by a 1x1 convolution and batch norm; an empty sequence, which passes through, if it matches."""
    if stride == 1 and width_in == width_out:
        return nn.Sequential()
    return nn.Sequential(conv(width_in, width_out, 1, stride=stride), nn.BatchNorm2d(width_out))


def _layer(
    block: type[BasicBlock] | type[Bottleneck], width_in: int, width: int, blocks: int, *, stride: int
) -> nn.Sequential:
    first = block(width_in, width, stride)
    return nn.Sequential(first, *(block(width * block.expansion, width, 1) for _ in range(blocks - 1)))


def feature_side(stem: Stem, image_size: int) -> int:
    """Give height and width of the features for a square image."""
    return halved(image_size, 3 if stem == "conv3x3" else 4)
