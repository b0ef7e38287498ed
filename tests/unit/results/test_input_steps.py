"""The card's lines give a program what the trial's own test-time view gives a network."""

import runpy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from icd.data.loader import Normaliser
from icd.data.pixels import decode_rgb
from icd.data.views import CropFlip, Identity, RandAugment
from icd.data.warps import RandomResizedCrop, RotateFlip
from icd.results.exports.input_steps import input_steps

MEAN, STD = (0.5071, 0.4867, 0.4408), (0.2675, 0.2565, 0.2761)


@pytest.mark.parametrize(
    ("views", "width", "height"),
    [
        (CropFlip(size=32, pad=4), 32, 32),
        (CropFlip(size=27, resize=32), 45, 60),
        (RandAugment(size=24, resize=32), 60, 45),
        (RotateFlip(size=64), 64, 64),
        (Identity(size=16), 33, 20),
        (RandomResizedCrop(size=24, resize=32), 47, 71),
        (RandomResizedCrop(size=21, resize=32), 71, 47),
    ],
)
def test_the_lines_give_the_test_time_view(tmp_path: Path, views: Any, width: int, height: int) -> None:
    file = tmp_path / "image.png"
    pixels_HWC = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    Image.fromarray(pixels_HWC).save(file)
    (tmp_path / "steps.py").write_text("\n".join(input_steps(views, MEAN, STD, file=str(file))))
    images_BCHW = runpy.run_path(str(tmp_path / "steps.py"))["images"]
    shown_BCHW = torch.from_numpy(views.render(decode_rgb(file), None))[None]
    wanted_BCHW = Normaliser(MEAN, STD, torch.device("cpu"), channels_last=False)(shown_BCHW)
    assert images_BCHW.dtype == np.float32
    assert images_BCHW.shape == (1, 3, views.size, views.size)
    np.testing.assert_allclose(images_BCHW, wanted_BCHW.numpy(), atol=2e-6)
