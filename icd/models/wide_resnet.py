"""Wide ResNets, pre-activation form: ``wrn_<depth>_<widening factor>``.

Source: Zagoruyko and Komodakis, BMVC 2016 (arXiv 1605.07146), table 1, without dropout; names follow RepDistiller.

Deviation: ``conv7x7_s2`` is ours, after the authors' other networks; their Wide ResNets do not run at 224 pixels.
"""

from collections import OrderedDict

from torch import Tensor, nn
from torch.nn import functional as F

from icd.models.layers import SequentialNetwork, conv, he_init, stacked, stem_conv
from icd.models.output import Stem


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


class WideResNet(SequentialNetwork):
    """Stem, three groups of ``(depth - 4) / 6`` blocks, a last batch norm and ReLU, head ``fc``.

    ``features`` come after that last ReLU; ``block``, which SP compares, before the batch norm.

    Args:
        depth: 6n + 4.
        factor: Multiplies the widths 16, 32 and 64 of the groups.
    """

    block_name = "block3"

    def __init__(self, num_classes: int, stem: Stem, *, depth: int, factor: int) -> None:
        super().__init__()
        assert depth % 6 == 4, depth
        self.conv1 = stem_conv(stem, 16)
        width_in = 16
        for number, width, stride in ((1, 16 * factor, 1), (2, 32 * factor, 2), (3, 64 * factor, 2)):
            group = stacked(PreactivationBlock, width_in, width, (depth - 4) // 6, stride=stride)
            self.add_module(f"block{number}", nn.Sequential(OrderedDict(layer=group)))
            width_in = width
        self.bn1 = nn.BatchNorm2d(width_in)
        self.relu = nn.ReLU(inplace=True)
        self.fc = nn.Linear(width_in, num_classes)
        he_init(self)
        nn.init.zeros_(self.fc.bias)
