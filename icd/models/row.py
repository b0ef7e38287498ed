"""Rows of ``MODELS``, and those of networks of which only a function is known: their features are measured."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from typing import Any

import torch

from icd.errors import ConfigError, Problem
from icd.models.output import Network, Output, Stem
from icd.models.seeding import initial_weights

Builder = Callable[[int, Stem], Network]
Features = Callable[[Stem, int], tuple[int, int, int]]


@dataclass(frozen=True, slots=True)
class ModelRow:
    """One network of the table."""

    build: Builder  # number of classes, stem -> a Network with new weights, drawn from torch's global generator
    family: str
    features: Features  # stem, side of a square image -> channels, height, width; 0 where it does not take that size
    summary: str
    stems: tuple[Stem, ...] = ("conv3x3", "conv7x7_s2")
    paper_name: str = ""  # what the authors' tables and checkpoints call it, where that is not the key
    build_pretrained: Builder | None = None


def measured_row(
    name: str,
    build: Callable[..., Any],
    stems: tuple[Any, ...],
    summary: str,
    *,
    pretrained: Callable[..., Any] | None = None,
    family: str | None = None,
) -> ModelRow:
    """Make the row of a network from the function that builds it.

    Args:
        name: What a file calls it.
        build: Number of classes, and the stem where there are several -> the network.
        stems: First layers that it knows.
        summary: A line about it.
        pretrained: The same with published weights.
        family: Family of the network, by default its name.
    """
    made = partial(_built, name, build, len(stems) > 1)
    return ModelRow(
        build=made,
        family=family or name,
        features=partial(_measured, name, made),
        summary=summary,
        stems=stems,
        build_pretrained=None if pretrained is None else partial(_built, name, pretrained, len(stems) > 1),
    )


def _built(name: str, build: Callable[..., Any], takes_stem: bool, num_classes: int, stem: Stem) -> Network:
    network = build(num_classes, stem) if takes_stem else build(num_classes)
    if not isinstance(network, Network):
        rule = f"network {name!r} must be an icd.models.Network, but its function gave {type(network).__name__}"
        raise ConfigError(Problem(rule=rule))
    return network


@cache
def _measured(name: str, build: Builder, stem: Stem, image_size: int) -> tuple[int, int, int]:
    """Give channels, height and width of the features, from one pass of a blank image; 0 where that is impossible."""
    with initial_weights(0), torch.inference_mode():
        network = build(2, stem).eval()
        try:
            output = network(torch.zeros(1, 3, image_size, image_size))
        except (RuntimeError, AssertionError, ValueError):  # too small an image, or one of a size that it does not take
            return 0, 0, 0
    if not isinstance(output, Output) or output.features_BCHW.dim() != 4:
        rule = f"network {name!r} must give an icd.models.Output with features [B, C, H, W], but gave {output!r:.80}"
        raise ConfigError(Problem(rule=rule))
    channels, height, width = output.features_BCHW.shape[1:]
    return channels, height, width
