"""ShuffleNetV2 at width 1.

Source: Ma et al., ECCV 2018 (arXiv 1807.11164), table 5 and figure 3; names and structure follow RepDistiller, whose
checkpoints load unchanged. Initial weights are torch's own, as there.

Deviation of that code from the paper: a 1x1 convolution and no pooling at the entrance.

Shape key:
    B: batch    C: channels    H, W: height, width    K: classes
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from icd.models.layers import classify, conv, halved, shuffle_channels, stem_conv
from icd.models.output import Network, Output, Stem

STEM_WIDTH = 24
LAYERS = ((116, 3), (232, 7), (464, 3))  # width, blocks after the one that halves the map
LAST_WIDTH = 1024


class DownBlock(nn.Module):
    """Halve the map: two branches over the whole input, each giving half of the channels, then a shuffle."""

    def __init__(self, width_in: int, width_out: int) -> None:
        super().__init__()
        half = width_out // 2
        self.conv1 = conv(width_in, width_in, 3, stride=2, groups=width_in)
        self.bn1 = nn.BatchNorm2d(width_in)
        self.conv2 = conv(width_in, half, 1)
        self.bn2 = nn.BatchNorm2d(half)
        self.conv3 = conv(width_in, half, 1)
        self.bn3 = nn.BatchNorm2d(half)
        self.conv4 = conv(half, half, 3, stride=2, groups=half)
        self.bn4 = nn.BatchNorm2d(half)
        self.conv5 = conv(half, half, 1)
        self.bn5 = nn.BatchNorm2d(half)

    def forward(self, images_BCHW: Tensor) -> Tensor:
        left = self.bn1(self.conv1(images_BCHW))
        left = F.relu_(self.bn2(self.conv2(left)))
        right = F.relu_(self.bn3(self.conv3(images_BCHW)))
        right = self.bn4(self.conv4(right))
        right = F.relu_(self.bn5(self.conv5(right)))
        return shuffle_channels(torch.cat([left, right], dim=1), 2)


class BasicBlock(nn.Module):
    """Keep the map: one half of the channels passes through, the other is filtered, then a shuffle."""

    def __init__(self, width: int) -> None:
        super().__init__()
        half = width // 2
        self.conv1 = conv(half, half, 1)
        self.bn1 = nn.BatchNorm2d(half)
        self.conv2 = conv(half, half, 3, groups=half)
        self.bn2 = nn.BatchNorm2d(half)
        self.conv3 = conv(half, half, 1)
        self.bn3 = nn.BatchNorm2d(half)

    def forward(self, images_BCHW: Tensor) -> Tensor:
        kept, branch = images_BCHW.chunk(2, dim=1)
        branch = F.relu_(self.bn1(self.conv1(branch)))
        branch = self.bn2(self.conv2(branch))
        branch = F.relu_(self.bn3(self.conv3(branch)))
        return shuffle_channels(torch.cat([kept, branch], dim=1), 2)


class ShuffleNetV2(Network):
    """Stem, three layers, a last 1x1 convolution to 1024 channels, head ``linear``.

    ``features`` come after the last convolution and its ReLU; ``block``, which SP compares, is the 464-channel
    output of the third layer.

    Deviation: the authors' ``cub`` variant fails at 224 pixels on a fixed pooling size; ours has their first
    convolution and pools over the whole map.

    Args:
        num_classes: K.
        stem: First convolution: 1x1 for ``cifar``, 7x7 with stride 2 for ``cub``.
    """

    def __init__(self, num_classes: int, stem: Stem) -> None:
        super().__init__()
        self.conv1 = stem_conv(stem, STEM_WIDTH, kernel=1)
        self.bn1 = nn.BatchNorm2d(STEM_WIDTH)
        (width1, blocks1), (width2, blocks2), (width3, blocks3) = LAYERS
        self.layer1 = _layer(STEM_WIDTH, width1, blocks1)
        self.layer2 = _layer(width1, width2, blocks2)
        self.layer3 = _layer(width2, width3, blocks3)
        self.conv2 = conv(width3, LAST_WIDTH, 1)
        self.bn2 = nn.BatchNorm2d(LAST_WIDTH)
        self.linear = nn.Linear(LAST_WIDTH, num_classes)

    @property
    def head(self) -> nn.Linear:
        return self.linear

    def forward(self, images_BCHW: Tensor) -> Output:
        hidden = F.relu_(self.bn1(self.conv1(images_BCHW)))
        block_BCHW = self.layer3(self.layer2(self.layer1(hidden)))
        return classify(self.linear, F.relu_(self.bn2(self.conv2(block_BCHW))), block_BCHW)


def _layer(width_in: int, width_out: int, basic_blocks: int) -> nn.Sequential:
    return nn.Sequential(DownBlock(width_in, width_out), *(BasicBlock(width_out) for _ in range(basic_blocks)))


def feature_side(stem: Stem, image_size: int) -> int:
    """Give height and width of the features for a square image."""
    return halved(image_size, 3 if stem == "conv3x3" else 4)
