"""How good a network is: top-1, top-5, loss and calibration error on a set of images.

Shape key:
    N: images    K: classes    R: bins of confidence
"""

from collections.abc import Iterable

import torch
import torch.nn.functional as F
from torch import Tensor

from icd.data.loader import Batch
from icd.models import Network


def evaluate(network: Network, batches: Iterable[Batch]) -> dict[str, float]:
    """Measure a network in its present mode; the caller puts it into ``eval()``.

    Returns:
        ``top1`` and ``top5`` in percent (``top5`` over all classes where there are fewer than 5), ``loss`` the mean
        cross entropy, and ``ece`` the expected calibration error in percent.
    """
    with torch.no_grad():
        judged = [_judged(network(batch.images_BCHW).logits_BK.float(), batch.labels_B) for batch in batches]
    first_N, among_five_N, loss_N, confidence_N, right_N = torch.cat(judged, dim=1).cpu()
    return {
        "top1": 100 * first_N.mean().item(),
        "top5": 100 * among_five_N.mean().item(),
        # Adds up in the order in which cross entropy does for all images at once: the same bits.
        "loss": F.nll_loss(-loss_N[:, None], torch.zeros_like(loss_N, dtype=torch.int64)).item(),
        "ece": 100 * calibration_error(confidence_N, right_N),
    }


def _judged(logits_BK: Tensor, labels_B: Tensor) -> Tensor:
    """Judge each image of a batch, on its device: five numbers an image are kept of K logits, float64 [5, B]."""
    top_B5 = logits_BK.topk(min(5, logits_BK.shape[1]), dim=1).indices
    hits_B5 = top_B5 == labels_B.unsqueeze(1)
    loss_B = F.cross_entropy(logits_BK.double(), labels_B, reduction="none")
    confidence_B, predicted_B = F.softmax(logits_BK.double(), dim=1).max(dim=1)
    return torch.stack([hits_B5[:, 0], hits_B5.any(dim=1), loss_B, confidence_B, predicted_B == labels_B])


def calibration_error(confidence_N: Tensor, right_N: Tensor, num_bins: int = 15) -> float:
    r"""Expected calibration error: how far confidence is from accuracy, averaged over bins of confidence.

    .. math:: ECE = \sum_r \frac{|bin_r|}{N} \left| accuracy_r - confidence_r \right|

    Bins have equal width, open below and closed above. Source: Guo et al., ICML 2017, eq. 3; 15 bins as there.

    Args:
        confidence_N: Largest probability of each image.
        right_N: 1 where its class is the label, else 0.
        num_bins: R.
    """
    bin_N = (confidence_N * num_bins).ceil().long().clamp(1, num_bins) - 1
    gap_R = torch.zeros(num_bins, dtype=torch.float64).index_add(0, bin_N, right_N - confidence_N)
    return gap_R.abs().sum().item() / len(right_N)
