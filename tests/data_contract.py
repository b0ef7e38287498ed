"""Tiny twins of the data sets."""

import hashlib
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from torchvision import datasets

from icd.data import DATASETS, Request, Split

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
    return lambda: DATASETS[name].load(Request(root=root, path=path, val_fraction=0.25, split_seed=3), **options)
