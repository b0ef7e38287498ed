"""A plugin with small networks: ``drops``, ``second_name`` and ``frozen``."""

import torch.nn.functional as F
from torch import Tensor, nn

from icd import register_model
from icd.models import Network, Output
from icd.models.layers import classify


class Small(Network):
    """A convolution, a batch norm, dropout in the feature map, and a linear classifier."""

    def __init__(self, num_classes: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 8, 3, stride=2, padding=1), nn.BatchNorm2d(8)
        self.dropout, self.fc = nn.Dropout(dropout), nn.Linear(8, num_classes)

    @property
    def head(self) -> nn.Linear:
        return self.fc

    def forward(self, images_BCHW: Tensor) -> Output:
        return classify(self.fc, self.dropout(F.relu(self.norm(self.conv(images_BCHW)))))


class SecondName(Small):
    """One whose classifier has two names."""

    def __init__(self, num_classes: int) -> None:
        super().__init__(num_classes)
        self.classifier = self.fc


class Frozen(Small):
    """One whose convolution is not trained."""

    def __init__(self, num_classes: int) -> None:
        super().__init__(num_classes)
        self.conv.requires_grad_(False)


register_model("drops", lambda num_classes: Small(num_classes, dropout=0.3))
register_model("second_name", SecondName)
register_model("frozen", Frozen)
