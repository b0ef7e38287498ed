"""What each term of the loss gives to the student's gradient, measured beside the training on one fixed batch.

The same images and views at every measurement of a trial, and for all trials of the same images, so that what differs
is the student and the term. A measurement leaves no trace: gradients are taken aside, running means, memories and
counters change in copies, and generators are put back.

Shape key:
    B: images of the fixed batch, the training's batch size where there are as many
"""

import logging
import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from icd.data import views
from icd.data.loader import Batch, order
from icd.methods import NetworkOutputs, Step
from icd.training.draws import generators_kept, seed_step
from icd.training.epoch_inputs import EpochInputs
from icd.training.step import TrainStep

logger = logging.getLogger(__name__)

REFERENCE = "ce"  # the term that the others are compared with
_SEED, _EPOCH = 0, 0  # of no training: epochs count from 1


class GradientProbe:
    """Measures a trial's terms; batch and teacher's answer are made at the first call and kept.

    Args:
        step: The step of the trial.
        inputs: Of its epochs; where a cache stands for the teacher the fixed batch is answered with its rounding.
    """

    def __init__(self, step: TrainStep, inputs: EpochInputs) -> None:
        self.step, self.inputs = step, inputs
        self._fixed: tuple[Batch, NetworkOutputs | None] | None = None

    def __call__(self, epoch: int) -> dict[str, float]:
        """Measure after an epoch's steps, with the weights of the terms in that epoch; metrics by their names.

        A gradient that is not finite has no norm: ``train/gradient_nonfinite/TERM`` is 1, and no share is given, since
        every share would be of a sum that does not exist.
        """
        if self._fixed is None:
            batch, cache = fixed_batch(self.inputs), self.inputs.cache
            self._fixed = batch, self.inputs.live_outputs(batch) if cache is None else cache.outputs_aside(batch)
        batch, teacher = self._fixed
        moment, device = Step(batch.labels_B, batch.indices_B, epoch, 0), batch.labels_B.device
        with generators_kept(device):
            seed_step(device, _SEED, _EPOCH, 0)
            terms = self.step.terms_without_side_effects(batch, teacher, moment)
        measured = term_gradients(terms, [weight for weight in self.step.student.parameters() if weight.requires_grad])
        lost = [name for name in terms if f"train/gradient_nonfinite/{name}" in measured]
        if lost:
            logger.warning("epoch %d: no gradient shares, for that of %s is not finite", epoch, ", ".join(lost))
        return measured


def fixed_batch(inputs: EpochInputs) -> Batch:
    """Show the first images of an order, in views, that no seed changes."""
    training = inputs.config.training
    indices_B = order(_SEED, _EPOCH, len(inputs.images))[: training.batch_size]
    view_ids_B = views.draw(_SEED, _EPOCH, indices_B, training.augmentation.num_views)
    return next(inputs.show(indices_B, view_ids_B, len(indices_B)))


def term_gradients(terms: Mapping[str, Tensor], weights: list[nn.Parameter]) -> dict[str, float]:
    r"""Norm of each weighted term's gradient, its share of the sum of norms, its cosine to that of cross entropy.

    .. math:: share_i = \|g_i\| / \sum_j \|g_j\|, \qquad cosine_i = <g_i, g_{ce}> / (\|g_i\| \|g_{ce}\|)

    Shares are of norms, so they add up to 1 though gradients may cancel. Sums are in float64. Where a norm is 0 there
    is no cosine, where all are 0 no share, and where a gradient is not finite neither shares nor its norm.

    Args:
        terms: Scalars, weights and warm-up inside.
        weights: Parameters to derive by.

    Returns:
        ``train/gradient_norm/TERM``, ``train/gradient_share/TERM``, ``train/gradient_cosine/TERM``, or
        ``train/gradient_nonfinite/TERM``.
    """
    gradients = {name: _gradient(term, weights) for name, term in terms.items()}
    squares = {name: _dot(gradient, gradient) for name, gradient in gradients.items()}
    norms = {name: math.sqrt(square) for name, square in squares.items() if math.isfinite(square)}
    measured = {f"train/gradient_norm/{name}": norm for name, norm in norms.items()}
    measured |= {f"train/gradient_nonfinite/{name}": 1.0 for name in terms if name not in norms}
    total = sum(norms.values())
    if total > 0 and len(norms) == len(terms):
        measured |= {f"train/gradient_share/{name}": norm / total for name, norm in norms.items()}
    for name, norm in norms.items():
        both = norm * norms.get(REFERENCE, 0.0)
        if name != REFERENCE and both > 0:
            measured[f"train/gradient_cosine/{name}"] = _dot(gradients[name], gradients[REFERENCE]) / both
    return measured


def _gradient(term: Tensor, weights: list[nn.Parameter]) -> list[Tensor | None]:
    """Derive a term by each weight; None for those it does not depend on."""
    if not term.requires_grad:
        return [None] * len(weights)
    return list(torch.autograd.grad(term, weights, retain_graph=True, allow_unused=True))


def _dot(one: list[Tensor | None], other: list[Tensor | None]) -> float:
    products = [
        (a.double() * b.double()).sum() for a, b in zip(one, other, strict=True) if a is not None and b is not None
    ]
    return float(torch.stack(products).sum()) if products else 0.0
