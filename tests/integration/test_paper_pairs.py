"""One training step of the paper's three pairs on real photographs at 224 pixels, and of one at 64 pixels."""

import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

from icd.data import DATASETS, Request, Split
from icd.data.loader import Normaliser, batches
from icd.methods import PAPER_ROWS, LiveOutputs, Step
from icd.models import Stem, build_model
from tests.support.needs import REFERENCE, need

PAIRS = [("resnet32x4", "mobilenetv2"), ("resnet32x4", "shufflenetv1"), ("vgg13", "vgg8")]


def unpacked(name: str, archive: str, folder: Path, *, every: int = 1) -> Split:
    """Unpack one of so many files, and load them."""
    path = REFERENCE / "data" / archive
    need("pictures", path.is_file(), f"{path} is absent; set ICD_REFERENCE to the reference folder")
    with zipfile.ZipFile(path) as file:
        file.extractall(folder, file.namelist()[::every])
    inside = [entry for entry in folder.iterdir() if entry.is_dir()]
    root = folder if (folder / "images.txt").exists() or len(inside) != 1 else inside[0]
    return DATASETS[name].load(Request(root=root, path=None, val_fraction=0.2, split_seed=0))


def step_terms(split: Split, data: str, pair: tuple[str, str], stem: Stem, row: str) -> dict[str, float]:
    """Terms of one forward and backward pass of two images; every student weight must get a finite gradient."""
    views = DATASETS[data].augmentation
    batch = next(
        batches(
            split.train,
            indices=np.arange(2),
            view_ids=np.array([0, views.num_views - 1]),
            views=views,
            batch_size=2,
            normaliser=Normaliser(split.mean, split.std, torch.device("cpu"), channels_last=True),
        )
    )
    teacher = build_model(pair[0], num_classes=split.num_classes, stem=stem, seed=0).eval()
    student = build_model(pair[1], num_classes=split.num_classes, stem=stem, seed=1).train()
    with torch.no_grad():
        teacher_side = LiveOutputs(*teacher(batch.images_BCHW), teacher.head)
    student_side = LiveOutputs(*student(batch.images_BCHW), student.head)
    method = PAPER_ROWS[row].build(None)
    terms = method(student_side, teacher_side, Step(batch.labels_B, batch.indices_B, 1, 0))
    torch.stack(list(terms.values())).sum().backward()
    for name, parameter in student.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
    return {name: term.item() for name, term in terms.items()}


@pytest.fixture(scope="module")
def birds(tmp_path_factory: pytest.TempPathFactory) -> Split:
    return unpacked("cub200", "cub200_2010_10c.zip", tmp_path_factory.mktemp("cub"))


@pytest.mark.parametrize("pair", PAIRS, ids="->".join)
def test_a_step_on_birds_at_224_pixels(birds: Split, pair: tuple[str, str]) -> None:
    terms = step_terms(birds, "cub200", pair, "conv7x7_s2", "iCD-KD")
    assert set(terms) == {"ce", "base", "cluster"}
    assert all(np.isfinite(value) and value >= 0 for value in terms.values()), terms


def test_a_step_on_tiny_imagenet_at_64_pixels(tmp_path: Path) -> None:
    split = unpacked("tiny_imagenet", "tiny_imagenet_animals30.zip", tmp_path, every=25)
    assert split.num_classes == 30
    terms = step_terms(split, "tiny_imagenet", ("resnet32x4", "mobilenetv2"), "conv3x3", "SD-DKD")
    assert set(terms) == {"ce", "base"}
    assert all(np.isfinite(value) for value in terms.values()), terms
