"""ShuffleNet, version 1 with three groups and version 2 at width 1.

Source: Zhang et al., CVPR 2018 (arXiv 1707.01083), table 1, g = 3; Ma et al., ECCV 2018 (arXiv 1807.11164), table 5
and figure 3. Names and structure follow RepDistiller. Initial weights are torch's own, as there.

Deviation of that code from the papers: a 1x1 convolution and no pooling at the entrance; in version 1 a ReLU after the
depth-wise convolution, and a shuffle of the very first block that has one group and does nothing. The authors'
``conv7x7_s2`` of version 2 fails at 224 pixels on a fixed pooling size; ours has their first convolution and pools over
the whole map.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from icd.models.layers import SequentialNetwork, conv, shuffle_channels, stacked, stem_conv
from icd.models.output import Stem

GROUPS = 3  # of version 1
STEM_WIDTH = 24


class ShuffleBlock(nn.Module):
    """Grouped 1x1, shuffle, depth-wise 3x3, grouped 1x1; joined with the input by a sum or side by side.

    With stride 2 the branch takes the first channels of the result, the average-pooled input the remaining ones.
    """

    def __init__(self, width_in: int, width_out: int, stride: int) -> None:
        super().__init__()
        self.stride = stride
        branch = width_out - width_in if stride == 2 else width_out
        middle = branch // 4
        # The 24 channels of the stem are too few to be split.
        self.groups = 1 if width_in == STEM_WIDTH else GROUPS
        self.conv1 = conv(width_in, middle, 1, groups=self.groups)
        self.bn1 = nn.BatchNorm2d(middle)
        self.conv2 = conv(middle, middle, 3, stride=stride, groups=middle)
        self.bn2 = nn.BatchNorm2d(middle)
        self.conv3 = conv(middle, branch, 1, groups=GROUPS)
        self.bn3 = nn.BatchNorm2d(branch)

    def forward(self, images_BCHW: Tensor) -> Tensor:
        hidden = shuffle_channels(F.relu_(self.bn1(self.conv1(images_BCHW))), self.groups)
        hidden = F.relu_(self.bn2(self.conv2(hidden)))
        branch = self.bn3(self.conv3(hidden))
        if self.stride == 1:
            return F.relu_(branch + images_BCHW)
        shortcut = F.avg_pool2d(images_BCHW, 3, stride=2, padding=1)
        return F.relu_(torch.cat([branch, shortcut], dim=1))


class ShuffleNetV1(SequentialNetwork):
    """Stem (1x1 with ``conv3x3``), three layers of shuffle blocks, head ``linear``."""

    head_name = "linear"

    def __init__(self, num_classes: int, stem: Stem) -> None:
        super().__init__()
        self.conv1 = stem_conv(stem, STEM_WIDTH, kernel=1)
        self.bn1 = nn.BatchNorm2d(STEM_WIDTH)
        self.relu = nn.ReLU(inplace=True)
        self.layer1 = stacked(ShuffleBlock, STEM_WIDTH, 240, 4, stride=2)
        self.layer2 = stacked(ShuffleBlock, 240, 480, 8, stride=2)
        self.layer3 = stacked(ShuffleBlock, 480, 960, 4, stride=2)
        self.linear = nn.Linear(960, num_classes)


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


class ShuffleNetV2(SequentialNetwork):
    """Stem (1x1 with ``conv3x3``), three layers, a last 1x1 convolution to 1024 channels, head ``linear``.

    ``features`` come after the last convolution and its ReLU; ``block``, which SP compares, is the 464-channel
    output of the third layer.
    """

    head_name = "linear"
    block_name = "layer3"

    def __init__(self, num_classes: int, stem: Stem) -> None:
        super().__init__()
        self.conv1 = stem_conv(stem, STEM_WIDTH, kernel=1)
        self.bn1 = nn.BatchNorm2d(STEM_WIDTH)
        self.relu1 = nn.ReLU(inplace=True)
        self.layer1 = _layer(STEM_WIDTH, 116, 3)
        self.layer2 = _layer(116, 232, 7)
        self.layer3 = _layer(232, 464, 3)
        self.conv2 = conv(464, 1024, 1)
        self.bn2 = nn.BatchNorm2d(1024)
        self.relu2 = nn.ReLU(inplace=True)
        self.linear = nn.Linear(1024, num_classes)


def _layer(width_in: int, width_out: int, basic_blocks: int) -> nn.Sequential:
    return nn.Sequential(DownBlock(width_in, width_out), *(BasicBlock(width_out) for _ in range(basic_blocks)))
