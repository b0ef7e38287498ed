"""What losses of rows are made of: softened predictions, and gradients written down instead of recorded.

The gradient of a divergence between softmaxes is one subtraction. Recorded by autograd it costs a dozen passes over
the logits, twice; given by ``with_gradient`` the step of iCD costs what that of KD costs.

Shape key:
    N: rows    K: classes    k: classes left out of a row
"""

from contextlib import AbstractContextManager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable


class _Known(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, student: Tensor, value: Tensor, gradient: Tensor) -> Tensor:
        ctx.save_for_backward(gradient)
        return value

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor, None, None]:
        (gradient,) = ctx.saved_tensors
        return gradient * upstream.reshape(upstream.shape + (1,) * (gradient.dim() - upstream.dim())), None, None


def with_gradient(student: Tensor, value: Tensor, gradient: Tensor) -> Tensor:
    """Give ``value`` a gradient that is known already.

    Args:
        student: What the value was computed from; receives the gradient.
        value: One value for each leading index of ``student``, or a scalar.
        gradient: Derivative of the value by ``student``, same shape as ``student``.
    """
    value_: Tensor = _Known.apply(student, value, gradient)
    return value_


def no_autocast(like: Tensor) -> AbstractContextManager[Any]:
    """Keep automatic mixed precision away from products of logits: a cosine in bfloat16 has three digits."""
    return torch.autocast(like.device.type if like.is_cuda else "cpu", enabled=False)


def in_full_precision(logits: Tensor) -> Tensor:
    """Give half-precision logits as float32; a softmax in float16 overflows at 65504 and loses digits long before."""
    return logits.float() if logits.dtype in (torch.float16, torch.bfloat16) else logits


def log_softened(logits_NK: Tensor, temperature: float, without_Nk: Tensor | None = None) -> Tensor:
    """Log of the softmax of logits / temperature over the classes not listed in ``without_Nk``; those are 0.

    Two sides that leave out the same classes have no gap there, and the exponential of 0 is cheap: that of the -inf
    which these classes have costs a CPU ten times as much as that of any number.
    """
    softened_NK = logits_NK / temperature
    if without_Nk is None:
        return F.log_softmax(softened_NK, dim=1)
    softened_NK.scatter_(1, without_Nk, float("-inf"))
    return F.log_softmax(softened_NK, dim=1).scatter_(1, without_Nk, 0.0)


def kl_and_gradient(
    student_NK: Tensor, teacher_NK: Tensor, temperature: float, without_Nk: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    r"""KL divergence of softened predictions of each row, and its derivative by the student; for use without autograd.

    .. math:: T^2 \, KL(p^T \,\|\, p^S), \qquad \partial / \partial s = T \, (p^S - p^T)

    Both sides are normalised over the classes not listed in ``without_Nk``; a row with one class left gives zero.
    """
    log_student_NK = log_softened(student_NK, temperature, without_Nk)
    log_teacher_NK = log_softened(teacher_NK, temperature, without_Nk)
    probability_NK = log_teacher_NK.exp()
    value_N = log_teacher_NK.sub_(log_student_NK).mul_(probability_NK).sum(dim=1).mul_(temperature**2)
    return value_N, log_student_NK.exp_().sub_(probability_NK).mul_(temperature)


def pair_kl(student_N: Tensor, teacher_N: Tensor) -> Tensor:
    """KL divergence between two-class predictions, from the margin between their two logits."""
    first_N = F.logsigmoid(teacher_N) - F.logsigmoid(student_N)
    second_N = F.logsigmoid(-teacher_N) - F.logsigmoid(-student_N)
    return teacher_N.sigmoid() * first_N + (-teacher_N).sigmoid() * second_N


def others_and_margin(logits_NK: Tensor, labels_N: Tensor, temperature: float) -> tuple[Tensor, Tensor, Tensor]:
    """Probabilities among the classes that are not the target, logs first, [N, K]; the target's logit above theirs [N].

    The margin is z_y - log sum_{c != y} exp z_c with z = logits / T; its sigmoid is the target's probability.
    """
    softened_NK, labels_N1 = logits_NK / temperature, labels_N.unsqueeze(1)
    target_N1 = softened_NK.gather(1, labels_N1)
    softened_NK.scatter_(1, labels_N1, float("-inf"))
    largest_N1 = softened_NK.amax(dim=1, keepdim=True)
    probability_NK = (softened_NK - largest_N1).exp_()
    sum_N1 = probability_NK.sum(dim=1, keepdim=True)
    normaliser_N1 = largest_N1 + sum_N1.log()
    return softened_NK.sub_(normaliser_N1), probability_NK.div_(sum_N1), (target_N1 - normaliser_N1).squeeze(1)


def standardized(logits: Tensor) -> Tensor:
    r"""Z-scores of each row over its classes; gradients pass through the row's mean and deviation.

    .. math:: Z(x) = (x - \bar x) / (\sigma(x) + 10^{-7}), \qquad \sigma^2 = \sum_k (x_k - \bar x)^2 / (K - 1)

    Source: Sun et al., CVPR 2024 (logit standardization). The unbiased deviation and the 1e-7 outside the root are
    their code's. Two classes have the same z-scores whatever their logits, so that there is nothing to learn.
    """
    logits = in_full_precision(logits)
    deviation = logits.std(dim=-1, keepdim=True)
    return (logits - logits.mean(dim=-1, keepdim=True)) / (deviation + 1e-7)
