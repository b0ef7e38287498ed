"""A moving average of a network's weights, kept beside the training and evaluated in place of them."""

import copy

import torch
from torch import Tensor, nn

from icd.models import Network


class WeightAverage(nn.Module):
    r"""Follows a network at a distance; what it asks for lies on the device, so a recorded step can hold it.

    .. math:: a_t = a_{t-1} + (1 - d_t) (w_t - a_{t-1}), \qquad d_t = \min(d, (1 + t) / (10 + t)), \quad t = 1, 2, ...

    Running means and variances of batch norms are averaged like weights, counters are copied. The growing decay lets
    the average leave the initial weights in a short training too.

    Source: ``tf.train.ExponentialMovingAverage`` with ``num_updates``.

    Args:
        network: What is followed; the average starts as its copy.
        decay: d.
    """

    num_steps: Tensor

    def __init__(self, network: Network, decay: float) -> None:
        super().__init__()
        self.network, self.decay = copy.deepcopy(network).requires_grad_(False), decay
        device = next(network.parameters()).device
        self.register_buffer("num_steps", torch.zeros((), dtype=torch.float32, device=device))
        pairs = list(zip(self.network.state_dict().values(), network.state_dict().values(), strict=True))
        self._moving = [pair for pair in pairs if pair[0].is_floating_point()]
        self._counters = [pair for pair in pairs if not pair[0].is_floating_point()]

    @torch.no_grad()
    def update(self) -> None:
        """Move towards the network's weights of now."""
        self.num_steps.add_(1)
        distance = 1 - ((1 + self.num_steps) / (10 + self.num_steps)).clamp(max=self.decay)
        own, new = [own for own, _ in self._moving], [new for _, new in self._moving]
        away = torch._foreach_sub(new, own)
        torch._foreach_mul_(away, distance)
        torch._foreach_add_(own, away)
        for counter, now in self._counters:
            counter.copy_(now)
