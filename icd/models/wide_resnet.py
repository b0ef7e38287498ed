"""Wide ResNets, pre-activation form: ``wrn_<depth>_<widening factor>``.

Source: Zagoruyko and Komodakis, BMVC 2016 (arXiv 1605.07146), table 1, without dropout; names follow RepDistiller,
whose checkpoints load unchanged.

Shape key:
    B: batch    C: channels    H, W: height, width    K: classes
"""

from torch import Tensor, nn
from torch.nn import functional as F

from icd.models.layers import classify, conv, halved, he_init, stem_conv
from icd.models.output import Network, Output, Stem


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


class Group(nn.Module):
    """Blocks of one width; the first carries the stride. A module of its own because checkpoints name ``layer``."""

    def __init__(self, width_in: int, width_out: int, blocks: int, stride: int) -> None:
        super().__init__()
        first = PreactivationBlock(width_in, width_out, stride)
        rest = (PreactivationBlock(width_out, width_out, 1) for _ in range(blocks - 1))
        self.layer = nn.Sequential(first, *rest)

    def forward(self, images_BCHW: Tensor) -> Tensor:
        out: Tensor = self.layer(images_BCHW)
        return out


class WideResNet(Network):
    """Stem, three groups of ``(depth - 4) / 6`` blocks, a last batch norm and ReLU, head ``fc``.

    ``features`` come after that last ReLU; ``block``, which SP compares, before the batch norm.

    Deviation: the ``cub`` stem is ours, after the authors' other networks; their Wide ResNets do not run at 224 pixels.

    Args:
        num_classes: K.
        stem: First convolution: 3x3 for ``cifar``, 7x7 with stride 2 for ``cub``.
        depth: 6n + 4.
        factor: Multiplies the widths 16, 32 and 64 of the groups.
    """

    def __init__(self, num_classes: int, stem: Stem, *, depth: int, factor: int) -> None:
        super().__init__()
        assert depth % 6 == 4, depth
        blocks = (depth - 4) // 6
        self.conv1 = stem_conv(stem, 16)
        self.block1 = Group(16, 16 * factor, blocks, stride=1)
        self.block2 = Group(16 * factor, 32 * factor, blocks, stride=2)
        self.block3 = Group(32 * factor, 64 * factor, blocks, stride=2)
        self.bn1 = nn.BatchNorm2d(64 * factor)
        self.fc = nn.Linear(64 * factor, num_classes)
        he_init(self)
        nn.init.zeros_(self.fc.bias)

    @property
    def head(self) -> nn.Linear:
        return self.fc

    def forward(self, images_BCHW: Tensor) -> Output:
        block_BCHW = self.block3(self.block2(self.block1(self.conv1(images_BCHW))))
        return classify(self.fc, F.relu_(self.bn1(block_BCHW)), block_BCHW)


def feature_side(stem: Stem, image_size: int) -> int:
    """Give height and width of the features for a square image."""
    return halved(image_size, 2 if stem == "conv3x3" else 3)
