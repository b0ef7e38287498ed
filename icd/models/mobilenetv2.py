"""MobileNetV2 at half width, as used for small images.

Source: Sandler et al., CVPR 2018 (arXiv 1801.04381), table 2; names and initial weights follow RepDistiller, whose
checkpoints load unchanged.

Deviation of that code from the paper: ReLU instead of ReLU6; the first block, with expansion 1, keeps its expansion
convolution; the second group does not halve the map; no dropout; the last convolution stays 1280 wide.

Shape key:
    B: batch    C: channels    H, W: height, width    K: classes
"""

from torch import Tensor, nn

from icd.models.layers import classify, conv, halved, he_init, small_normal_init, stem_conv
from icd.models.output import Network, Output, Stem

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

    def __init__(self, width_in: int, width_out: int, stride: int, expansion: int) -> None:
        super().__init__()
        width = width_in * expansion
        self.has_shortcut = stride == 1 and width_in == width_out
        self.conv = nn.Sequential(
            conv(width_in, width, 1),
            nn.BatchNorm2d(width),
            nn.ReLU(inplace=True),
            conv(width, width, 3, stride=stride, groups=width),
            nn.BatchNorm2d(width),
            nn.ReLU(inplace=True),
            conv(width, width_out, 1),
            nn.BatchNorm2d(width_out),
        )

    def forward(self, images_BCHW: Tensor) -> Tensor:
        out: Tensor = self.conv(images_BCHW)
        return images_BCHW + out if self.has_shortcut else out


class MobileNetV2(Network):
    """Stem, seven groups of inverted residuals, a last 1x1 convolution to 1280 channels, head ``classifier.0``.

    ``features`` come after the last convolution and its ReLU; ``block``, which SP compares, is the 160-channel
    output of the last group.

    Args:
        num_classes: K.
        stem: 3x3 with stride 2 for ``cifar``; 7x7 with stride 2 and a 2x2 max-pool for ``cub``.
    """

    def __init__(self, num_classes: int, stem: Stem) -> None:
        super().__init__()
        self.conv1 = nn.Sequential(
            stem_conv(stem, STEM_WIDTH, stride=2), nn.BatchNorm2d(STEM_WIDTH), nn.ReLU(inplace=True)
        )
        if stem == "conv7x7_s2":
            self.conv1.append(nn.MaxPool2d(2))
        groups = []
        width_in = STEM_WIDTH
        for expansion, width, blocks, stride in GROUPS:
            groups.append(_group(width_in, width, blocks, stride=stride, expansion=expansion))
            width_in = width
        self.blocks = nn.Sequential(*groups)
        self.conv2 = nn.Sequential(conv(width_in, LAST_WIDTH, 1), nn.BatchNorm2d(LAST_WIDTH), nn.ReLU(inplace=True))
        # A sequence of one, because the published checkpoints name the layer `classifier.0`.
        self.classifier = nn.Sequential(nn.Linear(LAST_WIDTH, num_classes))
        he_init(self)
        small_normal_init(self.head)

    @property
    def head(self) -> nn.Linear:
        head = self.classifier[0]
        assert isinstance(head, nn.Linear)
        return head

    def forward(self, images_BCHW: Tensor) -> Output:
        block_BCHW = self.blocks(self.conv1(images_BCHW))
        return classify(self.head, self.conv2(block_BCHW), block_BCHW)


def _group(width_in: int, width_out: int, blocks: int, *, stride: int, expansion: int) -> nn.Sequential:
    first = InvertedResidual(width_in, width_out, stride, expansion)
    rest = (InvertedResidual(width_out, width_out, 1, expansion) for _ in range(blocks - 1))
    return nn.Sequential(first, *rest)


def feature_side(stem: Stem, image_size: int) -> int:
    """Give height and width of the features for a square image."""
    after_stem = halved(image_size, 1)
    if stem == "conv7x7_s2":
        after_stem //= 2  # the max-pool has no padding and rounds down
    return halved(after_stem, 3)
