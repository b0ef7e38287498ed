"""VGG networks with batch norm and one linear layer as the classifier.

Source: Simonyan and Zisserman, ICLR 2015 (arXiv 1409.1556), table 1, without its fully connected layers and fifth
pooling; vgg8, the names and the initial weights follow RepDistiller.
"""

from torch import Tensor, nn
from torch.nn import functional as F

from icd.models.layers import SequentialNetwork, classify, he_init, small_normal_init
from icd.models.output import Output, Stem

WIDTHS = (64, 128, 256, 512, 512)

# The authors pool a fourth time for Tiny-ImageNet only, and decide by the height of the image.
FOUR_POOLINGS_HEIGHT = 64


class VGG(SequentialNetwork):
    """Five blocks of 3x3 convolutions (with bias), batch norm and ReLU, 2x2 max-pools between them, ``classifier``.

    Both stems are the same network. With ``conv3x3`` the classifier starts from N(0, 0.01); with ``conv7x7_s2`` it
    keeps torch's initial weights, because the authors put a new layer there.

    Args:
        convs: Convolutions in each of the five blocks.
    """

    def __init__(self, num_classes: int, stem: Stem, *, convs: tuple[int, int, int, int, int]) -> None:
        blocks = enumerate(map(_block, (3, *WIDTHS), WIDTHS, convs))
        children: dict[str, nn.Module] = {f"block{number}": block for number, block in blocks}
        super().__init__({**children, "classifier": nn.Linear(WIDTHS[-1], num_classes)}, head="classifier")
        he_init(self)
        if stem == "conv3x3":
            small_normal_init(self.head)

    def forward(self, images_BCHW: Tensor) -> Output:
        first, *others, _ = self.children()
        hidden, poolings = first(images_BCHW), 4 if images_BCHW.shape[2] == FOUR_POOLINGS_HEIGHT else 3
        for number, block in enumerate(others):
            hidden = block(F.max_pool2d(hidden, 2) if number < poolings else hidden)
        return classify(self.head, hidden)


def _block(width_in: int, width_out: int, convs: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for width in (width_in, *[width_out] * (convs - 1)):
        layers += [nn.Conv2d(width, width_out, 3, padding=1), nn.BatchNorm2d(width_out), nn.ReLU(inplace=True)]
    return nn.Sequential(*layers)


def features(stem: Stem, image_size: int) -> tuple[int, int, int]:
    """Give the size of the features, as ``ModelRow`` asks."""
    side = image_size // (16 if image_size == FOUR_POOLINGS_HEIGHT else 8)
    return WIDTHS[-1], side, side
