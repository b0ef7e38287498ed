"""What tests of networks share."""

from typing import cast

from torch import nn

from icd.models import Network


def head_of(network: nn.Module) -> nn.Linear:
    # To mypy every attribute of a module may be a tensor.
    return cast("Network", network).head
