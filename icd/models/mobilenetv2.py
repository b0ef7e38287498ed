"""MobileNetV2 at half width, as used for small images.

Source: Sandler et al., CVPR 2018 (arXiv 1801.04381), table 2; names and initial weights follow RepDistiller.

Deviation of that code from the paper: ReLU instead of ReLU6; the first block, with expansion 1, keeps its expansion
convolution; the second group does not halve the map; no dropout; the last convolution stays 1280 wide.
"""

from functools import partial

from torch import Tensor, nn

from icd.models.layers import SequentialNetwork, conv, halved, he_init, small_normal_init, stacked, stem_conv
from icd.models.output import Stem

STEM_WIDTH = 16
LAST_WIDTH = 1280

# expansion, width, blocks, stride of the first block
GROUPS = (
    (1, 8, 1, 1),
    (6, 12, 2, 1),
    (6, 16, 3, 2),
    (6, 32, 4, 2),
    (6, 48, 3, 1),
    (6, 80, 3, 2),
    (6, 160, 1, 1),
)


class InvertedResidual(nn.Module):
    """Widen by 1x1, filter per channel, narrow by 1x1 without activation; a shortcut where the shape stays."""

    def __init__(self, width_in: int, width_out: int, stride: int, *, expansion: int) -> None:
        super().__init__()
        width = width_in * expansion
        self.has_shortcut = stride == 1 and width_in == width_out
        self.conv = nn.Sequential(
            *_activated(conv(width_in, width, 1)),
            *_activated(conv(width, width, 3, stride=stride, groups=width)),
            conv(width, width_out, 1),
            nn.BatchNorm2d(width_out),
        )

    def forward(self, images_BCHW: Tensor) -> Tensor:
        out: Tensor = self.conv(images_BCHW)
        return images_BCHW + out if self.has_shortcut else out


def build(num_classes: int, stem: Stem) -> SequentialNetwork:
    """Build stem, seven groups of inverted residuals, a last 1x1 convolution to 1280 channels, head ``classifier.0``.

    The stem has stride 2 at any rate; a 2x2 max-pool follows that of ``conv7x7_s2``. ``features`` come after the last
    convolution and its ReLU; ``block``, which SP compares, is the 160-channel output of the last group.
    """
    entrance = _activated(stem_conv(stem, STEM_WIDTH, stride=2))
    if stem == "conv7x7_s2":
        entrance.append(nn.MaxPool2d(2))
    groups, width_in = nn.Sequential(), STEM_WIDTH
    for expansion, width, blocks, stride in GROUPS:
        groups.append(stacked(partial(InvertedResidual, expansion=expansion), width_in, width, blocks, stride=stride))
        width_in = width
    children = {"conv1": entrance, "blocks": groups, "conv2": _activated(conv(width_in, LAST_WIDTH, 1))}
    children["classifier"] = nn.Sequential(nn.Linear(LAST_WIDTH, num_classes))
    network = SequentialNetwork(children, head="classifier.0", block="blocks")
    he_init(network)
    small_normal_init(network.head)
    return network


def _activated(convolution: nn.Conv2d) -> nn.Sequential:
    return nn.Sequential(convolution, nn.BatchNorm2d(convolution.out_channels), nn.ReLU(inplace=True))


def features(stem: Stem, image_size: int) -> tuple[int, int, int]:
    """Give the size of the features, as ``ModelRow`` asks."""
    side = halved(image_size, 1)
    if stem == "conv7x7_s2":
        side //= 2  # the max-pool has no padding and rounds down
    return LAST_WIDTH, halved(side, 3), halved(side, 3)
