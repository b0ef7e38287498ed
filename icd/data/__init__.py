"""Data sets, their division into train, val and a closed test set, and their views.

``DATASETS`` is the list of data sets; adding one means writing its file and its row here.
"""

from pathlib import Path

from icd.data import cifar, cub200, digits100, imagefolder, npz, tiny_imagenet
from icd.data.dataset import DatasetRow, Request
from icd.data.split import Split
from icd.data.views import CropFlip
from icd.data.warps import RandomResizedCrop, RotateFlip
from icd.registry import Registry

__all__ = ["DATASETS", "DatasetRow", "Request", "Split", "load_dataset"]

DATASETS: Registry[DatasetRow] = Registry(
    "data set",
    {
        "digits100": DatasetRow(
            load=digits100.load,
            summary="two-digit numbers in colour, 100 classes of 32 x 32, made on the spot: no download",
            num_classes=100,
            image_size=32,
            augmentation=CropFlip(size=32, pad=2, flip=False),
            preset="digits100",
            horizontal_flip=False,
        ),
        "cifar10": DatasetRow(
            load=cifar.load_cifar10,
            summary="60,000 photographs of 32 x 32, 10 classes; can be downloaded",
            num_classes=10,
            image_size=32,
            augmentation=CropFlip(size=32, pad=4),
            preset="cifar100",
        ),
        "cifar100": DatasetRow(
            load=cifar.load_cifar100,
            summary="60,000 photographs of 32 x 32, 100 classes; can be downloaded",
            num_classes=100,
            image_size=32,
            augmentation=CropFlip(size=32, pad=4),
            preset="cifar100",
        ),
        "tiny_imagenet": DatasetRow(
            load=tiny_imagenet.load,
            summary="Tiny-ImageNet: 64 x 64, up to 200 classes; its official val is the test set",
            image_size=64,
            augmentation=RotateFlip(size=64),
            preset="tiny_imagenet",
        ),
        "cub200": DatasetRow(
            load=cub200.load,
            summary="CUB-200-2011: photographs of birds, shown at 224 x 224",
            from_files=True,
            augmentation=CropFlip(size=224, resize=256),
            preset="cub200",
        ),
        "imagefolder": DatasetRow(
            load=imagefolder.load,
            summary="class folders train/CLASS/* and test/CLASS/* or val/CLASS/* (ImageNet)",
            from_files=True,
            augmentation=RandomResizedCrop(size=224),
            preset="imagenet",
        ),
        "npz": DatasetRow(
            load=npz.load,
            summary="one NPZ file: x_train, y_train, x_test, y_test (uint8 NHWC), class_names",
            augmentation=CropFlip(size=32, pad=4),
            preset="cifar100",
            needs_path=True,
        ),
    },
)


def load_dataset(
    name: str,
    *,
    root: Path | None,
    path: str | None,
    val_fraction: float,
    split_seed: int,
    download: bool = False,
    **options: object,
) -> Split:
    """Load a row of ``DATASETS`` with options of its own, divided as a ``Request`` with the other fields says.

    Raises:
        DataError: If files are missing, corrupt or not what they should be.
    """
    request = Request(root=root, path=path, val_fraction=val_fraction, split_seed=split_seed, download=download)
    return DATASETS[name].load(request, **options)
