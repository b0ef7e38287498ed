"""Gram matrices of cells: what the cluster term compares, for a few fixed images, kept with a trial for its report.

Shape key:
    B: batch    C: channels    H, W: height, width    K: classes
    m: scale    M: cells of one scale, m * m    P: cells of all scales
"""

import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from icd.config.trial import TrialConfig
from icd.data.split import Split
from icd.losses.cells import cell_logits
from icd.methods import CellDistillation
from icd.models import Network
from icd.storage.durable import write_durably
from icd.training.kernels import kernels
from icd.training.loop import Execution, evaluation_batches, initial_student
from icd.worker.gram_file import GRAMS_NAME, Grams, pack_grams, thumbnails

logger = logging.getLogger(__name__)

_IMAGES = 2  # always the first of the validation images, so that trials can be compared


def keep_grams(
    folder: Path,
    config: TrialConfig,
    split: Split,
    student: Network,
    teacher: Network | None,
    device: torch.device,
) -> None:
    """Keep the matrices of a method with cells and a scale of at least 2; failing at that loses no trial."""
    method = config.method
    scales = [scale for scale in getattr(method, "scales", ()) if scale > 1]
    if teacher is None or not isinstance(method, CellDistillation) or not scales:
        return
    if config.data.measure_on == "test":
        return  # a picture of test images would be a look that nobody counts
    try:
        first = split.val.subset(range(min(_IMAGES, len(split.val))))
        images_BCHW = next(evaluation_batches(config, split, first, Execution(device=device))).images_BCHW
        before = initial_student(config, split.num_classes, device)
        with kernels(device, "fp32"):  # whatever the training rounded to
            sides = {
                name: gram_matrices(network, images_BCHW, scales, method.cluster_temperature, method.grid)
                for name, network in {"teacher": teacher, "student": student, "before": before}.items()
            }
        kept = Grams(**sides, images=thumbnails(images_BCHW.float().cpu().numpy()))
        write_durably(folder / GRAMS_NAME, pack_grams(kept))
    except Exception as error:
        logger.warning("Gram matrices of %s could not be kept: %s", folder, error)


def gram_matrices(
    network: Network, images_BCHW: Tensor, scales: Sequence[int], temperature: float, grid: int | None = 4
) -> dict[int, np.ndarray]:
    """Give for each scale a network's [B, M, M]; rows sum to 1.

    A row is softmax(cosine of one cell's logits with those of all cells / temperature), as ``cluster_loss`` compares
    it with ``gram="cells"``. The network keeps its mode.
    """
    training = network.training
    network.eval()
    try:
        with torch.no_grad():
            cells_BPK = cell_logits(network(images_BCHW).features_BCHW, network.head, scales, grid=grid)
    finally:
        network.train(training)
    unit_BPK = F.normalize(cells_BPK.float(), dim=2)
    by_scale = torch.split(unit_BPK, [scale * scale for scale in scales], 1)
    return {
        scale: torch.softmax(unit_BMK @ unit_BMK.transpose(1, 2) / temperature, dim=2).cpu().numpy()
        for scale, unit_BMK in zip(scales, by_scale, strict=True)
    }
