"""ImageNet networks of torchvision, with its published weights on request.

State-dict names are torchvision's, so its checkpoints load unchanged. torchvision takes seconds to import; only
building one of these networks does so.

Left out: MobileNetV3. Its classifier is linear, hardswish, dropout, linear, so logits are no linear function of pooled
features and cell logits cannot be formed (methods.md 4.1).

Deviation: MobileNetV2 here has no dropout before its classifier. In training, dropout would draw another mask for each
cell, and the global logits would not be the mean of the cells' logits.
"""

from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from torch import Tensor, nn

from icd.errors import SetupError
from icd.models.layers import SequentialNetwork, classify
from icd.models.output import Network, Output, Stem

IMAGENET_CLASSES = 1000


class TorchvisionMobileNetV2(SequentialNetwork):
    """Torchvision's MobileNetV2.

    ``block``, which SP compares, is the output of the last inverted residual, before the convolution to 1280
    channels, as in the half-width network.
    """

    def forward(self, images_BCHW: Tensor) -> Output:
        block_BCHW = hidden = images_BCHW
        for module in self.get_submodule("features").children():
            block_BCHW, hidden = hidden, module(hidden)
        return classify(self.head, hidden, block_BCHW)


def build(num_classes: int, stem: Stem, *, name: str, pretrained: bool = False) -> Network:
    """Build a network of torchvision; see ``build_model`` for the arguments.

    Raises:
        SetupError: If the published weights cannot be had.
    """
    from torchvision.models import get_model, get_model_weights

    del stem  # torchvision's own is the only one
    network = get_model(name) if pretrained else get_model(name, num_classes=num_classes)
    if pretrained:
        network.load_state_dict(_published_weights(name, get_model_weights(name).DEFAULT))
    is_mobilenet = name == "mobilenet_v2"
    head_name = "classifier.1" if is_mobilenet else "fc"
    head = network.get_submodule(head_name)
    if head.out_features != num_classes:
        network.set_submodule(head_name, nn.Linear(head.in_features, num_classes))
    if is_mobilenet:
        network.classifier[0] = nn.Identity()  # where the dropout was, so that the head keeps its name
    children = {child: module for child, module in network.named_children() if child != "avgpool"}
    return (TorchvisionMobileNetV2 if is_mobilenet else SequentialNetwork)(children, head=head_name)


def _published_weights(name: str, weights: Any) -> dict[str, Tensor]:
    """Read torchvision's weights from torch's cache, downloading them first if they are not there."""
    try:
        state: dict[str, Tensor] = weights.get_state_dict(progress=False, check_hash=True, weights_only=True)
    except (OSError, EOFError, RuntimeError, UnpicklingError) as error:
        path = Path(torch.hub.get_dir()) / "checkpoints" / Path(weights.url).name
        reason = " ".join(str(error).split()) or type(error).__name__
        raise SetupError(
            f"torchvision's weights of {name} must be readable at {path} or be downloaded, but got: {reason}; "
            f"put {weights.url} there, or set pretrained to false"
        ) from error
    return state
