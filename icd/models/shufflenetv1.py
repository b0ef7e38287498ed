"""ShuffleNet (version 1) with three groups.

Source: Zhang et al., CVPR 2018 (arXiv 1707.01083), table 1, g = 3; names and structure follow RepDistiller. Initial
weights are torch's own, as there.

Deviation of that code from the paper: a 1x1 convolution and no pooling at the entrance; a ReLU after the depth-wise
convolution; the shuffle of the very first block has one group and does nothing.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from icd.models.layers import SequentialNetwork, conv, shuffle_channels, stacked, stem_conv
from icd.models.output import Stem

GROUPS = 3
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
