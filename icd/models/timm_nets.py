"""Networks of timm, by ``timm:NAME``: any with a linear classifier, as teacher or student.

timm is an extra of the package; only naming one of its networks imports it.

Cells need a map whose mean feeds the classifier. What a network of timm gives before its pooling is such a map if
``head(mean) == logits`` holds, which is tried once on noise with a random classifier: a map [B, C, H, W] or
[B, H, W, C], or patch tokens [B, T, C], T being a square. Where it does not hold, because the classifier sees a class
token, or a norm or a convolution comes after pooling, the vector that the classifier sees is a map of 1 x 1: scale 1 is
possible, and finer scales are refused as for any map that is too small.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from functools import cache, partial
from typing import Any, cast

import torch
from torch import Tensor, nn

from icd.errors import ConfigError, Problem, SetupError
from icd.models.layers import classify
from icd.models.output import Network, Output
from icd.models.row import ModelRow, measured_row
from icd.models.seeding import initial_weights

_SMALL = 64  # pixels of the noise, where a network takes other sizes than its own
_TOLERANCE = 1e-4

# Ways to read a map out of what a network gives before its pooling, tried in this order.
_READERS: Mapping[str, Callable[[Any, Tensor], Tensor]] = {
    "channels_first": lambda network, given: given,
    "channels_last": lambda network, given: given.permute(0, 3, 1, 2),
    "tokens": lambda network, given: _as_map(given[:, int(getattr(network, "num_prefix_tokens", 0)) :]),
    "pooled": lambda network, given: network.forward_head(given, pre_logits=True)[:, :, None, None],
}


class TimmNetwork(Network):
    """A network of timm.

    Args:
        network: Made by ``timm.create_model``.
        reader: Key of ``_READERS``; with ``pooled`` only the classifier's own input is a map, of 1 x 1.
    """

    def __init__(self, network: Any, reader: str) -> None:
        super().__init__()
        self.network, self.reader = network, reader

    @property
    def head(self) -> nn.Linear:
        return _classifier(self.network)

    def forward(self, images_BCHW: Tensor) -> Output:
        given = self.network.forward_features(images_BCHW)
        return classify(self.head, _READERS[self.reader](self.network, given))


@cache  # and with the row what is measured of it
def timm_row(name: str) -> ModelRow:
    """Make the row of a network of timm.

    Raises:
        KeyError: If timm has none of that name.
        SetupError: If timm is not installed.
    """
    timm = _timm(name)
    elsewhere = name.startswith(("hf-hub:", "local-dir:"))  # weights and settings that are not in timm itself
    if not elsewhere and not timm.is_model(name):
        raise KeyError(name)
    published = elsewhere or timm.is_model_pretrained(name)
    pretrained = partial(_build, name, pretrained=True) if published else None
    build, summary = partial(_build, name), f"{name} of timm"
    return measured_row(f"timm:{name}", build, ("own",), summary, pretrained=pretrained, family="timm")


def timm_names() -> Sequence[str]:
    """List timm's networks; none where it is not installed."""
    try:
        return [f"timm:{name}" for name in _timm("").list_models()]
    except SetupError:
        return []


def _timm(name: str) -> Any:
    try:
        import timm
    except ImportError as error:
        raise SetupError(f"timm:{name} needs timm, which is missing: pip install '.[timm]'") from error
    return timm


def _build(name: str, num_classes: int, *, pretrained: bool = False) -> Network:
    return TimmNetwork(_create(name, num_classes, pretrained=pretrained), _reader_of(name))


def _create(name: str, num_classes: int, *, pretrained: bool = False) -> nn.Module:
    """Make a network of timm; one that can take images of several sizes is told to.

    Raises:
        ConfigError: If it has no single linear classifier.
        SetupError: If published weights cannot be had.
    """
    timm = _timm(name)
    asked = {"pretrained": pretrained, "num_classes": num_classes}
    try:
        try:
            network = timm.create_model(name, **asked, dynamic_img_size=True)
        except TypeError:  # most families have no such argument
            network = timm.create_model(name, **asked)
    except Exception as error:
        if not pretrained and ":" not in name:
            raise
        told = " ".join(str(error).split())[:200] or type(error).__name__
        raise SetupError(
            f"the published weights of timm:{name} cannot be had: {told}; they come from huggingface.co, or from the "
            "cache that HF_HOME names once they were fetched; a local copy is timm:local-dir:FOLDER"
        ) from error
    _classifier(network)
    return cast("nn.Module", network)


def _classifier(network: Any) -> nn.Linear:
    head = network.get_classifier()
    if not isinstance(head, nn.Linear):
        rule = f"{type(network).__name__} of timm must have one linear classifier, but has {type(head).__name__}"
        raise ConfigError(Problem(path="arch", rule=rule, hint="take another of its networks"))
    return head


def _as_map(tokens_BTC: Tensor) -> Tensor:
    """Lay tokens out as a square map, row by row."""
    side = math.isqrt(tokens_BTC.shape[1])
    map_BCHW: Tensor = tokens_BTC.transpose(1, 2).unflatten(2, (side, side))
    return map_BCHW


@cache
def _reader_of(name: str) -> str:
    """Find how a network's map is read, by trying which one's mean the classifier turns into the logits."""
    with initial_weights(0), torch.inference_mode():
        network: Any = _create(name, 3).eval()
        head = _classifier(network)
        nn.init.normal_(head.weight)  # a classifier of zeros would agree with anything
        given, logits_BK = _first_pass(network)
        for name_of_reader, read in _READERS.items():
            try:
                map_BCHW = read(network, given)
                guess_BK = head(map_BCHW.mean(dim=(2, 3)))
            except (RuntimeError, ValueError, IndexError, AttributeError, TypeError):
                continue
            if map_BCHW.dim() == 4 and torch.allclose(guess_BK, logits_BK, rtol=_TOLERANCE, atol=_TOLERANCE):
                return name_of_reader
    rule = f"the logits of timm:{name} must be its classifier's answer to what comes before it, but are not"
    raise ConfigError(Problem(path="arch", rule=rule, hint="take another of its networks"))


def _first_pass(network: Any) -> tuple[Any, Tensor]:
    """Make a pass of noise: of a small size, or of the network's own where it takes no other."""
    images_BCHW = torch.randn(2, 3, _SMALL, _SMALL)
    try:
        return network.forward_features(images_BCHW), network(images_BCHW)
    except (RuntimeError, AssertionError, ValueError):
        images_BCHW = torch.randn(2, *network.pretrained_cfg["input_size"])
        return network.forward_features(images_BCHW), network(images_BCHW)
