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

NUM_BINS = 15


def evaluate(network: Network, batches: Iterable[Batch]) -> dict[str, float]:
    """Measure a network in its present mode; the caller puts it into ``eval()``.

    Returns:
        ``top1`` and ``top5`` in percent (``top5`` over all classes where there are fewer than 5), ``loss`` the mean
        cross entropy, and ``ece`` the expected calibration error in percent.
    """
    logits, labels = [], []
    with torch.no_grad():
        for batch in batches:
            logits.append(network(batch.images_BCHW).logits_BK.float())
            labels.append(batch.labels_B)
    return measures(torch.cat(logits).cpu(), torch.cat(labels).cpu())


def measures(logits_NK: Tensor, labels_N: Tensor) -> dict[str, float]:
    """Compute the measures of ``evaluate`` from logits."""
    top_N5 = logits_NK.topk(min(5, logits_NK.shape[1]), dim=1).indices
    hits_N5 = top_N5 == labels_N.unsqueeze(1)
    return {
        "top1": 100 * hits_N5[:, 0].double().mean().item(),
        "top5": 100 * hits_N5.any(dim=1).double().mean().item(),
        "loss": F.cross_entropy(logits_NK.double(), labels_N).item(),
        "ece": 100 * calibration_error(logits_NK, labels_N),
    }


def calibration_error(logits_NK: Tensor, labels_N: Tensor, num_bins: int = NUM_BINS) -> float:
    r"""Expected calibration error: how far confidence is from accuracy, averaged over bins of confidence.

    .. math:: ECE = \sum_r \frac{|bin_r|}{N} \left| accuracy_r - confidence_r \right|

    Bins have equal width, open below and closed above. Source: Guo et al., ICML 2017, eq. 3; 15 bins as there.
    """
    confidence_N, predicted_N = F.softmax(logits_NK.double(), dim=1).max(dim=1)
    right_N = (predicted_N == labels_N).double()
    bin_N = (confidence_N * num_bins).ceil().long().clamp(1, num_bins) - 1
    gap_R = torch.zeros(num_bins, dtype=torch.float64).index_add(0, bin_N, right_N - confidence_N)
    return gap_R.abs().sum().item() / len(labels_N)
