"""Sweeps over images so small that an epoch takes milliseconds; what they train is real."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from icd.data.split import Split


def views() -> dict[str, Any]:
    """Crops of their 16 x 16 pixels; fresh, because YAML would write a dictionary that comes twice as an alias."""
    return {"crop_flip": {"size": 16, "pad": 2}}


def training(epochs: int) -> dict[str, Any]:
    """How their students are trained."""
    return {"preset": "digits100", "epochs": epochs, "batch_size": 12, "augmentation": views()}


def unpruned(epochs: int, trials: int, **more: Any) -> dict[str, Any]:
    """Changes to the sweep of ``crash.harness``: every trial is trained to its last epoch."""
    return {"training": training(epochs), "pruner": "none", "budget": {"trials": trials}, **more}


def images(num_classes: int = 10, per_class: int = 5, side: int = 16) -> "Split":
    """Give noise with a hint of its class, in memory: half as many images to validate on as to train on."""
    import torch

    from icd.data.images import ArrayImages
    from icd.data.split import ClosedTest, Split

    def part(number: int, count: int) -> ArrayImages:
        labels_N = torch.arange(num_classes).repeat(count)
        draw = torch.Generator().manual_seed(number)
        pixels_NCHW = torch.randint(0, 200, (len(labels_N), 3, side, side), dtype=torch.uint8, generator=draw)
        return ArrayImages(pixels_NCHW + (50 * labels_N // num_classes).to(torch.uint8)[:, None, None, None], labels_N)

    return Split(
        name="tiny",
        train=part(0, per_class),
        val=part(1, per_class // 2),
        test=ClosedTest(lambda: part(2, per_class // 2)),
        class_names=tuple(str(number) for number in range(num_classes)),
        mean=(0.5, 0.5, 0.5),
        std=(0.25, 0.25, 0.25),
        digest="d" * 64,
        split_digest="s" * 64,
    )


def write_images(path: Path, num_classes: int = 10, per_class: int = 10) -> Path:
    """Write an NPZ file of 16 x 16 pixels of noise."""
    import numpy as np

    labels_N = np.arange(num_classes * per_class) % num_classes
    pixels_NHWC = np.random.default_rng(0).integers(0, 255, (len(labels_N), 16, 16, 3), dtype=np.uint8)
    names = np.array([str(number) for number in range(num_classes)])
    test = pixels_NHWC[:num_classes] // 2
    np.savez(path, x_train=pixels_NHWC, y_train=labels_N, x_test=test, y_test=labels_N[:num_classes], class_names=names)
    return path
