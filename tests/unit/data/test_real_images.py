"""The loaders on real images, where the reference folder is there (ICD_REFERENCE, by default ../shared)."""

import zipfile
from pathlib import Path

import numpy as np

from icd.data import DATASETS, Request
from icd.data.images import ArrayImages
from tests.support.needs import REFERENCE, need


def reference(name: str) -> Path:
    file = REFERENCE / "data" / name
    need("pictures", file.is_file(), f"{file} is absent; set ICD_REFERENCE to the reference folder")
    return file


def test_cifar_100_classes_as_npz() -> None:
    file = reference("cifar100_20c_500x100.npz")
    split = DATASETS["npz"].load(Request(root=file.parent, path=file.name, val_fraction=0.1, split_seed=0))
    assert np.bincount(split.val.labels_N.numpy()).tolist() == [50] * 20
    assert isinstance(split.train, ArrayImages)
    pixels = split.train.images_NCHW[::10].float() / 255
    # Four of twenty superclasses are near all of CIFAR-100, but not the same.
    assert np.abs(pixels.mean(dim=(0, 2, 3)).numpy() - split.mean).max() < 0.1
    assert np.abs(pixels.std(dim=(0, 2, 3)).numpy() - split.std).max() < 0.1


def test_cub_photographs(tmp_path: Path) -> None:
    with zipfile.ZipFile(reference("cub200_2010_10c.zip")) as archive:
        archive.extractall(tmp_path)
    split = DATASETS["cub200"].load(
        Request(root=tmp_path / "CUB_200_2010_10c", path=None, val_fraction=0.1, split_seed=0)
    )
    assert (len(split.train) + len(split.val), len(split.test.open("count")), split.num_classes) == (224, 70, 10)
    assert split.class_names[0] == "001.Black_footed_Albatross"


def test_tiny_imagenet_animals(tmp_path: Path) -> None:
    with zipfile.ZipFile(reference("tiny_imagenet_animals30.zip")) as archive:
        wanted = [name for name in archive.namelist() if "/n02085" in name or "/n02099" in name]
        archive.extractall(tmp_path, wanted)
    root = tmp_path / "tiny_imagenet_animals30"
    split = DATASETS["tiny_imagenet"].load(Request(root=root, path=None, val_fraction=0.1, split_seed=0))
    assert split.num_classes >= 2
    assert len(split.train) == 450 * split.num_classes
    assert len(split.test.open("count")) == 50 * split.num_classes
