"""The CIFAR ResNets: three layers of basic blocks, thin (resnet8 to resnet110) or four times as wide (x4).

Source: He et al., CVPR 2016 (arXiv 1512.03385), section 4.2; names, the 1x1 shortcut and the x4 widths follow the
distillation code of Tian et al. (RepDistiller), whose checkpoints load unchanged.

Shape key:
    B: batch    C: channels    H, W: height, width    K: classes
"""

from torch import Tensor, nn
from torch.nn import functional as F

from icd.models.layers import classify, conv, halved, he_init, stem_conv
from icd.models.output import Network, Output, Stem


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut; the first convolution carries the stride."""

    def __init__(self, width_in: int, width_out: int, stride: int) -> None:
        super().__init__()
        self.conv1 = conv(width_in, width_out, 3, stride=stride)
        self.bn1 = nn.BatchNorm2d(width_out)
        self.conv2 = conv(width_out, width_out, 3)
        self.bn2 = nn.BatchNorm2d(width_out)
        self.downsample: nn.Sequential | None = None
        if stride != 1 or width_in != width_out:
            self.downsample = nn.Sequential(conv(width_in, width_out, 1, stride=stride), nn.BatchNorm2d(width_out))

    def forward(self, images_BCHW: Tensor) -> Tensor:
        shortcut = images_BCHW if self.downsample is None else self.downsample(images_BCHW)
        hidden = F.relu_(self.bn1(self.conv1(images_BCHW)))
        return F.relu_(self.bn2(self.conv2(hidden)) + shortcut)


class ResNet(Network):
    """Stem, three layers of ``(depth - 2) / 6`` basic blocks, head ``fc``.

    Deviation: the first convolution of resnet8 to resnet110 with the ``cub`` stem is ours, after the authors' x4
    networks; theirs have none.

    Args:
        num_classes: K.
        stem: First convolution: 3x3 for ``cifar``, 7x7 with stride 2 for ``cub``.
        depth: Number of layers with weights on the longest path, 6n + 2.
        widths: Channels of the stem and of the three layers.
    """

    def __init__(
        self,
        num_classes: int,
        stem: Stem,
        *,
        depth: int,
        widths: tuple[int, int, int, int] = (16, 16, 32, 64),
    ) -> None:
        super().__init__()
        assert depth % 6 == 2, depth
        blocks = (depth - 2) // 6
        self.conv1 = stem_conv(stem, widths[0])
        self.bn1 = nn.BatchNorm2d(widths[0])
        self.layer1 = _layer(widths[0], widths[1], blocks, stride=1)
        self.layer2 = _layer(widths[1], widths[2], blocks, stride=2)
        self.layer3 = _layer(widths[2], widths[3], blocks, stride=2)
        self.fc = nn.Linear(widths[3], num_classes)
        he_init(self)

    @property
    def head(self) -> nn.Linear:
        return self.fc

    def forward(self, images_BCHW: Tensor) -> Output:
        hidden = F.relu_(self.bn1(self.conv1(images_BCHW)))
        return classify(self.fc, self.layer3(self.layer2(self.layer1(hidden))))


def _layer(width_in: int, width_out: int, blocks: int, *, stride: int) -> nn.Sequential:
    first = BasicBlock(width_in, width_out, stride)
    return nn.Sequential(first, *(BasicBlock(width_out, width_out, 1) for _ in range(blocks - 1)))


def feature_side(stem: Stem, image_size: int) -> int:
    """Give height and width of the features for a square image."""
    return halved(image_size, 2 if stem == "conv3x3" else 3)
