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

from icd.models.layers import NormedConvs, SequentialNetwork, conv, conv_bn_relu, shuffle_channels, stacked, stem_conv
from icd.models.output import Stem

GROUPS = 3  # of version 1
STEM_WIDTH = 24


class ShuffleBlock(NormedConvs):
    """Grouped 1x1, shuffle, depth-wise 3x3, grouped 1x1; joined with the input by a sum or side by side.

    With stride 2 the branch takes the first channels of the result, the average-pooled input the remaining ones.
    """

    def __init__(self, width_in: int, width_out: int, stride: int) -> None:
        branch = width_out - width_in if stride == 2 else width_out
        middle = branch // 4
        # The 24 channels of the stem are too few to be split.
        groups = 1 if width_in == STEM_WIDTH else GROUPS
        super().__init__(
            conv(width_in, middle, 1, groups=groups),
            conv(middle, middle, 3, stride=stride, groups=middle),
            conv(middle, branch, 1, groups=GROUPS),
        )
        self.stride, self.groups = stride, groups

    def forward(self, images_BCHW: Tensor) -> Tensor:
        hidden = shuffle_channels(self.activated(1, images_BCHW), self.groups)
        branch = self.normed(3, self.activated(2, hidden))
        if self.stride == 1:
            return F.relu_(branch + images_BCHW)
        shortcut = F.avg_pool2d(images_BCHW, 3, stride=2, padding=1)
        return F.relu_(torch.cat([branch, shortcut], dim=1))


def version_1(num_classes: int, stem: Stem) -> SequentialNetwork:
    """Build stem (1x1 with ``conv3x3``), three layers of shuffle blocks, and head ``linear``."""
    return SequentialNetwork(
        {
            **conv_bn_relu(stem_conv(stem, STEM_WIDTH, kernel=1)),
            "layer1": stacked(ShuffleBlock, STEM_WIDTH, 240, 4, stride=2),
            "layer2": stacked(ShuffleBlock, 240, 480, 8, stride=2),
            "layer3": stacked(ShuffleBlock, 480, 960, 4, stride=2),
            "linear": nn.Linear(960, num_classes),
        },
        head="linear",
    )


class DownBlock(NormedConvs):
    """Halve the map: two branches over the whole input, each giving half of the channels, then a shuffle."""

    def __init__(self, width_in: int, width_out: int) -> None:
        half = width_out // 2
        super().__init__(
            conv(width_in, width_in, 3, stride=2, groups=width_in),
            conv(width_in, half, 1),
            conv(width_in, half, 1),
            conv(half, half, 3, stride=2, groups=half),
            conv(half, half, 1),
        )

    def forward(self, images_BCHW: Tensor) -> Tensor:
        left = self.activated(2, self.normed(1, images_BCHW))
        right = self.activated(5, self.normed(4, self.activated(3, images_BCHW)))
        return shuffle_channels(torch.cat([left, right], dim=1), 2)


class BasicBlock(NormedConvs):
    """Keep the map: one half of the channels passes through, the other is filtered, then a shuffle."""

    def __init__(self, width: int) -> None:
        half = width // 2
        super().__init__(conv(half, half, 1), conv(half, half, 3, groups=half), conv(half, half, 1))

    def forward(self, images_BCHW: Tensor) -> Tensor:
        kept, branch = images_BCHW.chunk(2, dim=1)
        branch = self.activated(3, self.normed(2, self.activated(1, branch)))
        return shuffle_channels(torch.cat([kept, branch], dim=1), 2)


def version_2(num_classes: int, stem: Stem) -> SequentialNetwork:
    """Build stem (1x1 with ``conv3x3``), three layers, a last 1x1 convolution to 1024 channels, and head ``linear``.

    ``features`` come after the last convolution and its ReLU; ``block``, which SP compares, is the 464-channel
    output of the third layer.
    """
    return SequentialNetwork(
        {
            **conv_bn_relu(stem_conv(stem, STEM_WIDTH, kernel=1)),
            "layer1": _layer(STEM_WIDTH, 116, 3),
            "layer2": _layer(116, 232, 7),
            "layer3": _layer(232, 464, 3),
            **conv_bn_relu(conv(464, 1024, 1), number=2),
            "linear": nn.Linear(1024, num_classes),
        },
        head="linear",
        block="layer3",
    )


def _layer(width_in: int, width_out: int, basic_blocks: int) -> nn.Sequential:
    return nn.Sequential(DownBlock(width_in, width_out), *(BasicBlock(width_out) for _ in range(basic_blocks)))
