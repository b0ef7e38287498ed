"""What every row of ``DATASETS`` must fulfil, and tiny twins of the data sets to try it on."""

import hashlib
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision import datasets

from icd.data import DATASETS, Split, load_dataset
from icd.data.dataset import views_problem
from icd.data.images import ArrayImages, FileImages, ImageSet
from icd.data.loader import batches
from icd.data.pixels import pixels
from icd.data.views import draw, order
from icd.errors import TestSetClosedError

CLASSES = ("ant", "bee", "cow")


def picture(number: int, side: int = 40) -> Image.Image:
    """Noise that differs from number to number, as an RGB picture."""
    noise_HWC = np.random.default_rng(number).integers(0, 256, (side, side + 4, 3), dtype=np.uint8)
    return Image.fromarray(noise_HWC)


def save_pictures(folder: Path, count: int, first: int, suffix: str = ".png") -> list[Path]:
    folder.mkdir(parents=True, exist_ok=True)
    files = [folder / f"{folder.name}_{number}{suffix}" for number in range(count)]
    for number, file in enumerate(files):
        picture(first + number, 64 if suffix == ".JPEG" else 40).resize((64, 64)).save(file)
    return files


def make_cifar(root: Path, monkeypatch: pytest.MonkeyPatch, name: str, per_file: int = 30) -> Path:
    """Write batches in the original format and have torchvision expect their checksums; returns their folder."""
    source = getattr(datasets, name.upper())
    folder: Path = root / source.base_folder
    labels = [number % len(CLASSES) for number in range(per_file)]
    folder.mkdir(parents=True)
    contents: dict[str, dict[str, object]] = {source.meta["filename"]: {source.meta["key"]: list(CLASSES)}}
    for part, (file, _) in enumerate((*source.train_list, *source.test_list)):
        data = np.random.default_rng(part).integers(0, 256, (per_file, 3072), dtype=np.uint8)
        coarse = {"coarse_labels": [label // 2 for label in labels]}
        contents[file] = {
            "data": data,
            **({"labels": labels} if name == "cifar10" else {"fine_labels": labels} | coarse),
        }
    sums = {}
    for file, content in contents.items():
        (folder / file).write_bytes(pickle.dumps(content, protocol=3))
        sums[file] = hashlib.md5((folder / file).read_bytes(), usedforsecurity=False).hexdigest()
    for part_list in ("train_list", "test_list"):
        monkeypatch.setattr(source, part_list, [[file, sums[file]] for file, _ in getattr(source, part_list)])
    monkeypatch.setattr(source, "meta", {**source.meta, "md5": sums[source.meta["filename"]]})
    return folder


def make_cub(root: Path) -> None:
    folder = root / "CUB_200_2011"
    rows = []
    for label, name in enumerate(CLASSES):
        files = save_pictures(folder / "images" / f"{label + 1:03d}.{name}", 6, first=100 * label)
        rows += [(file, label + 1, int(number < 4)) for number, file in enumerate(files)]
    texts = {
        "classes.txt": [f"{label + 1} {label + 1:03d}.{name}" for label, name in enumerate(CLASSES)],
        "images.txt": [
            f"{n} {file.relative_to(folder / 'images').as_posix()}" for n, (file, _, _) in enumerate(rows, start=1)
        ],
        "image_class_labels.txt": [f"{n} {label}" for n, (_, label, _) in enumerate(rows, start=1)],
        "train_test_split.txt": [f"{n} {train}" for n, (_, _, train) in enumerate(rows, start=1)],
    }
    for name, lines in texts.items():
        (folder / name).write_text("\n".join(lines) + "\n")


def make_tiny(root: Path, *, original: bool = True) -> None:
    folder = root / "tiny-imagenet-200"
    annotations = []
    for label, name in enumerate(CLASSES):
        inner = folder / "train" / name
        save_pictures(inner / "images" if original else inner, 4, first=100 * label, suffix=".JPEG")
        if original:
            (folder / "val" / "images").mkdir(parents=True, exist_ok=True)
            picture(900 + label, 64).resize((64, 64)).convert("L").save(folder / f"val/images/val_{label}.JPEG")
            annotations.append(f"val_{label}.JPEG\t{name}\t0\t0\t62\t62")
        else:
            save_pictures(folder / "val" / name, 2, first=900 + 10 * label, suffix=".JPEG")
    if original:
        (folder / "val" / "val_annotations.txt").write_text("\n".join(annotations) + "\n")


def make_imagefolder(root: Path, test: str = "val") -> None:
    for label, name in enumerate(CLASSES):
        save_pictures(root / "train" / name, 4, first=100 * label)
        save_pictures(root / test / name, 2, first=900 + 10 * label)


def npz_arrays(side: int = 32) -> dict[str, Any]:
    random = np.random.default_rng(5)
    return {
        "x_train": random.integers(0, 256, (30, side, side, 3), dtype=np.uint8),
        "y_train": np.arange(30) % len(CLASSES),
        "x_test": random.integers(0, 256, (9, side, side, 3), dtype=np.uint8),
        "y_test": np.arange(9) % len(CLASSES),
        "class_names": np.array(CLASSES),
    }


def twin(name: str, root: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], Split]:
    """Make a tiny twin of a data set below ``root``; returns what loads it."""
    path: str | None = None
    options: dict[str, Any] = {}
    if name in ("cifar10", "cifar100"):
        make_cifar(root, monkeypatch, name)
    elif name == "digits100":
        options = {"train_per_class": 4, "test_per_class": 1}
    elif name == "cub200":
        make_cub(root)
    elif name == "tiny_imagenet":
        make_tiny(root)
    elif name == "imagefolder":
        make_imagefolder(root)
    elif name == "npz":
        np.savez(root / "twin.npz", **npz_arrays())
        path = "twin.npz"
    else:
        raise AssertionError(f"write a twin for the new data set {name!r} here")
    return lambda: load_dataset(name, root=root, path=path, val_fraction=0.25, split_seed=3, **options)


def pixel_hashes(images: ImageSet) -> list[bytes]:
    """Digest of the pixels of each image."""
    if isinstance(images, ArrayImages):
        arrays = list(images.images_NCHW.numpy())
    else:
        assert isinstance(images, FileImages)
        arrays = [pixels(images.decode(index)) for index in range(len(images))]
    return [hashlib.sha256(np.ascontiguousarray(array).data).digest() for array in arrays]


class DatasetContract:
    """Checks for one data set; a subclass gives the fixtures ``name`` and ``load``."""

    def test_train_val_and_test_share_no_image(self, load: Callable[[], Split]) -> None:
        split = load()
        train, val = set(pixel_hashes(split.train)), set(pixel_hashes(split.val))
        test = set(pixel_hashes(split.test.open("contract")))
        assert train
        assert val
        assert test
        assert train.isdisjoint(val)
        assert test.isdisjoint(train | val)

    def test_two_loads_are_equal(self, load: Callable[[], Split]) -> None:
        first, second = load(), load()
        assert (first.digest, first.split_digest) == (second.digest, second.split_digest)
        assert (first.train.digest, first.val.digest) == (second.train.digest, second.val.digest)
        assert first.test.open("contract").digest == second.test.open("contract").digest

    def test_labels_cover_the_classes(self, name: str, load: Callable[[], Split]) -> None:
        split = load()
        every_class = list(range(split.num_classes))
        for images in (split.train, split.val, split.test.open("contract")):
            assert images.labels_N.dtype == torch.int64
            assert sorted(set(images.labels_N.tolist())) == every_class
        assert len(set(split.class_names)) == split.num_classes
        assert split.superclasses is None or len(split.superclasses) == split.num_classes
        assert split.name == name

    def test_closed_test_set_is_not_read(self, load: Callable[[], Split]) -> None:
        split = load()
        with pytest.raises(TestSetClosedError):
            len(split.test)
        assert split.test.looks == []

    def test_default_views_make_normalised_batches(self, name: str, load: Callable[[], Split]) -> None:
        split, row = load(), DATASETS[name]
        indices = order(0, 1, len(split.train))
        ids = draw(0, 1, indices, row.augmentation.num_views)
        for images, chosen, view_ids in ((split.train, indices, ids), (split.val, np.arange(len(split.val)), None)):
            shown = list(
                batches(
                    images,
                    indices=chosen,
                    view_ids=view_ids,
                    views=row.augmentation,
                    batch_size=8,
                    mean=split.mean,
                    std=split.std,
                    device="cpu",
                    channels_last=True,
                )
            )
            assert torch.equal(torch.cat([batch.indices_B for batch in shown]), torch.from_numpy(chosen))
            assert torch.equal(
                torch.cat([batch.labels_B for batch in shown]), images.labels_N[torch.from_numpy(chosen)]
            )
            side = row.augmentation.size
            assert all(batch.images_BCHW.shape[1:] == (3, side, side) for batch in shown)
            assert all(batch.images_BCHW.dtype == torch.float32 for batch in shown)
            # Pixels are in 0..255, so normalised ones lie between -mean / std and (1 - mean) / std.
            low, high = min(b.images_BCHW.min() for b in shown), max(b.images_BCHW.max() for b in shown)
            assert low >= -max(m / s for m, s in zip(split.mean, split.std, strict=True)) - 1e-4
            assert high <= max((1 - m) / s for m, s in zip(split.mean, split.std, strict=True)) + 1e-4

    def test_row_agrees_with_the_data(self, name: str, load: Callable[[], Split]) -> None:
        split, row = load(), DATASETS[name]
        assert row.from_files == isinstance(split.train, FileImages)
        if isinstance(split.train, ArrayImages):
            assert row.image_size in (None, split.train.images_NCHW.shape[-1])
            assert views_problem(name, row.augmentation, split.train.images_NCHW.shape[-1]) is None
        assert row.horizontal_flip or not getattr(row.augmentation, "flip", False)
        assert row.summary.isascii()
