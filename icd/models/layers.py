"""The few pieces that several families share.

All families apply ReLU in place, and only to a tensor that nothing else reads (a sum, or what a batch norm gave); on a
CPU this makes a training step 1 to 7 % shorter.

Shape key:
    B: batch    C: channels    H, W: height, width    G: groups    K: classes
"""

import torch
from torch import Tensor, nn

from icd.models.output import Output, Stem


def conv(width_in: int, width_out: int, kernel: int, *, stride: int = 1, groups: int = 1) -> nn.Conv2d:
    """Make a convolution without bias (a batch norm follows), padded so that stride 1 keeps the size."""
    return nn.Conv2d(width_in, width_out, kernel, stride=stride, padding=kernel // 2, groups=groups, bias=False)


def stem_conv(stem: Stem, width: int, *, kernel: int = 3, stride: int = 1) -> nn.Conv2d:
    """Make the first convolution: the family's own for ``cifar``, 7x7 with stride 2 for ``cub``.

    Source: the authors' CUB networks (methods.md 4.2); the width stays that of the CIFAR network.
    """
    if stem == "conv7x7_s2":
        return conv(3, width, 7, stride=2)
    return conv(3, width, kernel, stride=stride)


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


def classify(head: nn.Linear, features_BCHW: Tensor, block_BCHW: Tensor | None = None) -> Output:
    """Pool over the whole map, apply the head and bundle the pass; the one place where pooling is written.

    Deviation: the authors pool with fixed sizes, which fails or mixes up the batch on other image sizes. The plain
    mean gives their numbers wherever their code runs (methods.md 4.2).
    """
    logits_BK: Tensor = head(features_BCHW.mean(dim=(2, 3)))
    return Output(logits_BK, features_BCHW, features_BCHW if block_BCHW is None else block_BCHW)


def shuffle_channels(images_BCHW: Tensor, groups: int) -> Tensor:
    """Interleave the channel groups: channel g * (C / G) + i moves to i * G + g.

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
