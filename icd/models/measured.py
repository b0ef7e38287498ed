"""Rows for networks of which only a function is known: the size of their features is measured, not computed."""

import inspect
from collections.abc import Callable
from functools import cache, partial
from typing import Any

import torch

from icd.errors import ConfigError, Problem
from icd.models.output import Network, Output, Stem
from icd.models.row import ModelRow
from icd.models.seeding import initial_weights

_CLASSES = 2  # of the network that is measured


def measured_row(
    name: str,
    build: Callable[..., Any],
    stems: tuple[Any, ...],
    summary: str,
    *,
    pretrained: Callable[..., Any] | None = None,
) -> ModelRow:
    """Make the row of a network from the function that builds it.

    Args:
        name: What a file calls it.
        build: Number of classes, and the stem where it takes two arguments -> the network.
        stems: First layers that it knows.
        summary: A line about it.
        pretrained: The same with published weights.
    """
    made = partial(_built, name, build)
    return ModelRow(
        build=made,
        channels=0,
        side=partial(_side, name, made),
        stems=stems,
        family=name,
        summary=summary,
        build_pretrained=None if pretrained is None else partial(_built, name, pretrained),
        measure=partial(_measured, name, made),
    )


def _built(name: str, build: Callable[..., Any], num_classes: int, stem: Stem) -> Network:
    required = [
        parameter
        for parameter in inspect.signature(build).parameters.values()
        if parameter.kind in (parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD)
        and parameter.default is parameter.empty
    ]
    network = build(num_classes, stem) if len(required) > 1 else build(num_classes)
    if not isinstance(network, Network):
        rule = f"network {name!r} must be an icd.models.Network, but its function gave {type(network).__name__}"
        raise ConfigError(Problem(rule=rule))
    return network


def _side(name: str, build: Callable[[int, Stem], Network], stem: Stem, image_size: int) -> int:
    return _measured(name, build, stem, image_size)[1]


@cache
def _measured(name: str, build: Callable[[int, Stem], Network], stem: Stem, image_size: int) -> tuple[int, int, int]:
    """Give channels, height and width of the features, from one pass of a blank image; 0 where that is impossible."""
    with initial_weights(0), torch.device("cpu"), torch.inference_mode():
        network = build(_CLASSES, stem).eval()
        try:
            output = network(torch.zeros(1, 3, image_size, image_size))
        except (RuntimeError, AssertionError, ValueError):  # too small an image, or one of a size that it does not take
            return 0, 0, 0
    if not isinstance(output, Output) or output.features_BCHW.dim() != 4:
        rule = f"network {name!r} must give an icd.models.Output with features [B, C, H, W], but gave {output!r:.80}"
        raise ConfigError(Problem(rule=rule))
    channels, height, width = output.features_BCHW.shape[1:]
    return channels, height, width
