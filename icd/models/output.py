"""What every network gives, and what the rest of the program may assume about a network.

Shape key of all files of this folder:
    B: batch    C: channels    H, W: height, width    K: classes
"""

from typing import TYPE_CHECKING, Literal, NamedTuple

from torch import Tensor, nn

# First layers. ``conv3x3`` is the family's own for small images, ``conv7x7_s2`` the authors' for CUB-200 at 224 pixels,
# ``conv7x7_s2_pool`` ImageNet's, ``own`` the only first layers that a network has where it is none of the papers'.
Stem = Literal["conv3x3", "conv7x7_s2", "conv7x7_s2_pool", "own"]


class Output(NamedTuple):
    """One forward pass.

    ``logits_BK == head(features_BCHW.mean((2, 3)))`` holds for every network of ``MODELS``: networks know nothing of
    scales, because pooling is an average and the head is linear (``losses/cells.py`` does the rest).
    """

    logits_BK: Tensor  # unnormalised
    features_BCHW: Tensor  # after the last block and its ReLU, before pooling
    block_BCHW: Tensor  # what SP compares: the last block's own output (methods.md 4.3); mostly the same tensor


class Network(nn.Module):
    """A teacher or a student: images in, ``Output`` out, with a linear classifier to be found as ``head``.

    Abstract; the rows of ``MODELS`` are final.
    """

    @property
    def head(self) -> nn.Linear:
        """The classifier, C to K, whatever its name in the state dict."""
        raise NotImplementedError

    if TYPE_CHECKING:  # nn.Module's own call is untyped

        def __call__(self, images_BCHW: Tensor) -> Output: ...
