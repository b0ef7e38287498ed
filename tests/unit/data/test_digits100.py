import subprocess
import sys

import numpy as np

from icd.data import DATASETS, Request
from icd.data.digits100 import make_images
from icd.data.images import ArrayImages

DIGEST_TRAIN = "dc5dd9511ebb481ab2f316749f38c6bffa51fbe4caf9fd12145d685cb93a4f9e"
DIGEST_TEST = "363deec236c4f4d5bfa156650fe31423a129764a7708759b0308737dc38e4361"
DIGEST_SPLIT = "ed7048b803e19cf9f142e3d9d32ec55d0a60f496da1f71e1c7650296488e2fa2"


def test_images_are_the_recorded_ones() -> None:
    # The same on every machine; a change makes all recorded results incomparable.
    assert make_images(20, 0, test=False).digest == DIGEST_TRAIN
    assert make_images(5, 0, test=True).digest == DIGEST_TEST


def test_split_is_the_recorded_one() -> None:
    split = DATASETS["digits100"].load(
        Request(root=None, path=None, val_fraction=0.1, split_seed=0), train_per_class=10
    )
    assert split.split_digest == DIGEST_SPLIT
    assert np.bincount(split.val.labels_N.numpy()).tolist() == [1] * 100


def test_an_image_does_not_depend_on_how_many_are_made() -> None:
    few, many = make_images(1, 4, test=False), make_images(3, 4, test=False)
    assert many.subset(np.arange(100)).digest == few.digest


def test_seeds_and_parts_give_other_images() -> None:
    digests = {make_images(1, seed, test=test).digest for seed in (0, 1) for test in (False, True)}
    assert len(digests) == 4


def test_pixels_use_the_whole_range_and_match_the_normalisation() -> None:
    split = DATASETS["digits100"].load(
        Request(root=None, path=None, val_fraction=0.1, split_seed=0), train_per_class=10
    )
    assert isinstance(split.train, ArrayImages)
    pixels = split.train.images_NCHW.numpy() / 255
    assert np.abs(pixels.mean(axis=(0, 2, 3)) - split.mean).max() < 0.01
    assert np.abs(pixels.std(axis=(0, 2, 3)) - split.std).max() < 0.01


def test_importing_the_package_imports_no_heavy_library() -> None:
    code = "import sys, icd.data; print([m for m in ('sklearn', 'torchvision', 'PIL', 'scipy') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
