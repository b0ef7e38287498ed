"""The few pieces that several families share.

Every family takes the number of classes and the stem. Its children carry the names that the published checkpoints
have, so that these load unchanged. ReLU is applied in place, and only to a tensor that nothing else reads (a sum, or
what a batch norm gave); on a CPU this makes a training step 1 to 7 % shorter.
"""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from icd.models.output import Network, Output, Stem


class SequentialNetwork(Network):
    """A network whose children follow each other; the last one is, or holds, the head.

    Args:
        children: By their names in the state dict.
        head: Name of the head.
        block: The child whose output SP compares, where that is not the features.
    """

    def __init__(self, children: Mapping[str, nn.Module], *, head: str = "fc", block: str = "") -> None:
        super().__init__()
        self.head_name, self.block_name = head, block
        for name, child in children.items():
            self.add_module(name, child)

    @property
    def head(self) -> nn.Linear:
        head = self.get_submodule(self.head_name)
        assert isinstance(head, nn.Linear)
        return head

    def forward(self, images_BCHW: Tensor) -> Output:
        hidden, block_BCHW = images_BCHW, None
        *children, _ = self.named_children()
        for name, child in children:
            hidden = child(hidden)
            if name == self.block_name:
                block_BCHW = hidden
        return classify(self.head, hidden, block_BCHW)


def classify(head: nn.Linear, features_BCHW: Tensor, block_BCHW: Tensor | None = None) -> Output:
    """Pool over the whole map, apply the head and bundle the pass; the one place where pooling is written.

    Deviation: the authors pool with fixed sizes, which fails or mixes up the batch on other image sizes. The plain
    mean gives their numbers wherever their code runs (methods.md 4.2).
    """
    logits_BK: Tensor = head(features_BCHW.mean(dim=(2, 3)))
    return Output(logits_BK, features_BCHW, features_BCHW if block_BCHW is None else block_BCHW)


class NormedConvs(nn.Module):
    """Convolutions ``conv1``, ``conv2``, ... each with a batch norm of its number, ``bn1``, ``bn2``, ..."""

    def __init__(self, *convolutions: nn.Conv2d) -> None:
        super().__init__()
        for number, convolution in enumerate(convolutions, 1):
            self.add_module(f"conv{number}", convolution)
            self.add_module(f"bn{number}", nn.BatchNorm2d(convolution.out_channels))

    def normed(self, number: int, images_BCHW: Tensor) -> Tensor:
        """Apply a convolution and its batch norm."""
        normed: Tensor = getattr(self, f"bn{number}")(getattr(self, f"conv{number}")(images_BCHW))
        return normed

    def activated(self, number: int, images_BCHW: Tensor) -> Tensor:
        """Apply a convolution, its batch norm and ReLU."""
        return F.relu_(self.normed(number, images_BCHW))


def conv_bn_relu(convolution: nn.Conv2d, number: int = 1) -> dict[str, nn.Module]:
    """Name a convolution, its batch norm and ReLU as children of a network."""
    norm, relu = nn.BatchNorm2d(convolution.out_channels), nn.ReLU(inplace=True)
    return {f"conv{number}": convolution, f"bn{number}": norm, f"relu{number}": relu}


def conv(width_in: int, width_out: int, kernel: int, *, stride: int = 1, groups: int = 1) -> nn.Conv2d:
    """Make a convolution without bias (a batch norm follows), padded so that stride 1 keeps the size."""
    return nn.Conv2d(width_in, width_out, kernel, stride=stride, padding=kernel // 2, groups=groups, bias=False)


def stem_conv(stem: Stem, width: int, *, kernel: int = 3, stride: int = 1) -> nn.Conv2d:
    """Make the first convolution: the family's own for ``conv3x3``, 7x7 with stride 2 for ``conv7x7_s2``.

    Source: the authors' CUB networks (methods.md 4.2); the width stays that of the CIFAR network.
    """
    return conv(3, width, 7, stride=2) if stem == "conv7x7_s2" else conv(3, width, kernel, stride=stride)


def stacked(
    block: Callable[[int, int, int], nn.Module], width_in: int, width_out: int, blocks: int, *, stride: int
) -> nn.Sequential:
    """Make blocks (width in, width out, stride) that follow each other; the first changes the width and strides."""
    first = block(width_in, width_out, stride)
    return nn.Sequential(first, *(block(width_out, width_out, 1) for _ in range(blocks - 1)))


def he_init(network: nn.Module) -> None:
    """Draw every convolution from He's normal distribution over its outputs; biases become zero."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)


def small_normal_init(head: nn.Linear) -> None:
    """Draw a classifier from N(0, 0.01), so that the first logits are nearly equal; its bias becomes zero."""
    nn.init.normal_(head.weight, std=0.01)
    nn.init.zeros_(head.bias)


def shuffle_channels(images_BCHW: Tensor, groups: int) -> Tensor:
    """Interleave the channel groups: channel g * (C / G) + i moves to i * G + g.

    ``torch.nn.functional.channel_shuffle`` gives the same and takes three times as long on a CPU.

    Source: ShuffleNet, Zhang et al., CVPR 2018 (arXiv 1707.01083), section 3.1.
    """
    B, C, H, W = images_BCHW.shape
    if images_BCHW.is_contiguous(memory_format=torch.channels_last):
        # Flattening in the B, C, H, W order would copy into the other layout, and every later convolution pay for it.
        images_BHWC = images_BCHW.permute(0, 2, 3, 1).reshape(B, H, W, groups, C // groups)
        return images_BHWC.transpose(3, 4).flatten(3, 4).permute(0, 3, 1, 2)
    return images_BCHW.reshape(B, groups, C // groups, H, W).transpose(1, 2).flatten(1, 2)


def halved(size: int, times: int) -> int:
    """Give the side of a map after that many stride-2 layers that round up, as padded convolutions do."""
    return -(-size // (1 << times))  # -(-a // b) rounds up


def halvings(channels: int, times: int) -> Callable[[Stem, int], tuple[int, int, int]]:
    """Give ``ModelRow.features`` of a family whose map is halved that often, and once more by ``conv7x7_s2``."""

    def features(stem: Stem, image_size: int) -> tuple[int, int, int]:
        side = halved(image_size, times + (stem == "conv7x7_s2"))
        return channels, side, side

    return features
