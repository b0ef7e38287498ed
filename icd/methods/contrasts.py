"""CRD's contrasts, drawn on the device of the images by a hash of what each draw is for; the host is asked nothing.

Shape key:
    B: batch    J: contrasts of one image, 1 positive + k negatives    N: training images
"""

import numpy as np
import torch
from torch import Tensor, nn

from icd.data import counter
from icd.losses.contrastive import ContrastMode

_GOLDEN, _MUL1, _MUL2 = (int(word.view(np.int64)) for word in (counter.GOLDEN, counter.MUL1, counter.MUL2))


class DeviceContrasts(nn.Module):
    """Draws what each image is compared with, uniform over the images of other classes and with replacement.

    A draw is ``counter.bits`` of (stream, seed, epoch, step, image, column), so it has no state and every device draws
    the same. ``draw_contrasts``, which a CPU uses, draws without replacement.

    Args:
        labels_N: Class of each training image.
        num_negatives: k.
        mode: The positive is the image itself (``exact``) or any of its class (``relaxed``).
        seed: Of the trial.
    """

    by_class_N: Tensor  # images, sorted by class
    start_N: Tensor  # of each image: where its class begins in that order
    count_N: Tensor  # and how many images it has

    def __init__(self, labels_N: np.ndarray, num_negatives: int, mode: ContrastMode, seed: int) -> None:
        super().__init__()
        self.num_negatives, self.mode = num_negatives, mode
        self.key = int(counter.bits(counter.CONTRAST, seed).view(np.int64)[0])
        _, inverse_N, counts_K = np.unique(labels_N, return_inverse=True, return_counts=True)
        starts_K = np.cumsum(counts_K) - counts_K
        tables = {"by_class_N": np.argsort(labels_N, kind="stable")}
        tables |= {"start_N": starts_K[inverse_N], "count_N": counts_K[inverse_N]}
        for name, values in tables.items():
            self.register_buffer(name, torch.from_numpy(values), persistent=False)

    def forward(self, indices_B: Tensor, epoch: int | Tensor, step: int | Tensor) -> Tensor:
        """Give positions in the training set, int64 [B, J], the positive first."""
        columns_J = torch.arange(self.num_negatives + 1, device=indices_B.device)
        moment = torch.full_like(indices_B, self.key)
        for word in (epoch, step, indices_B):
            moment = _mixed(moment, word)
        bits_BJ = _mixed(moment[:, None], columns_J)
        start_B1, count_B1 = self.start_N[indices_B, None], self.count_N[indices_B, None]
        place_BJ = _below(len(self.by_class_N) - count_B1, bits_BJ)
        place_BJ = place_BJ + count_B1 * (place_BJ >= start_B1)  # past the image's own class
        if self.mode == "relaxed":
            place_BJ[:, :1] = start_B1 + _below(count_B1, bits_BJ[:, :1])
        contrasts_BJ = self.by_class_N[place_BJ]
        if self.mode == "exact":
            contrasts_BJ[:, 0] = indices_B
        return contrasts_BJ


def _mixed(state: Tensor, word: int | Tensor) -> Tensor:
    """Take one more word into a hash, as ``counter.bits`` does; int64 wraps around like uint64."""
    state = (state ^ (word.to(torch.int64) if isinstance(word, Tensor) else word)) + _GOLDEN
    state = (state ^ _shifted(state, 30)) * _MUL1
    state = (state ^ _shifted(state, 27)) * _MUL2
    return state ^ _shifted(state, 31)


def _shifted(state: Tensor, by: int) -> Tensor:
    return (state >> by) & ((1 << (64 - by)) - 1)  # without the sign


def _below(limit_B1: Tensor, bits: Tensor) -> Tensor:
    return (_shifted(bits, 32) * limit_B1) >> 32
