import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL.Image import Image

from icd.data import images as image_sets
from icd.data.images import ArrayImages, FileImages
from icd.data.loader import Batch, Normaliser, batches
from icd.data.views import CropFlip, draw
from icd.data.warps import RandomResizedCrop, RotateFlip
from icd.errors import DataError
from tests.data_contract import save_pictures

MEAN, STD = (0.5, 0.4, 0.3), (0.2, 0.25, 0.3)


def begun(images: ArrayImages | FileImages, **changes: Any) -> Iterator[Batch]:
    given: dict[str, Any] = {
        "indices": np.arange(len(images)),
        "view_ids": None,
        "views": CropFlip(size=32, pad=4),
        "batch_size": 4,
        "normaliser": Normaliser(MEAN, STD, torch.device("cpu"), channels_last=False),
    }
    return batches(images, **{**given, **changes})


def show(images: ArrayImages | FileImages, **changes: Any) -> list[Batch]:
    return list(begun(images, **changes))


@pytest.fixture
def in_memory() -> ArrayImages:
    pixels = torch.randint(0, 256, (10, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    return ArrayImages(pixels, torch.arange(10) * 11)


@pytest.fixture
def files(tmp_path: Path) -> FileImages:
    saved = save_pictures(tmp_path, 10, first=0, suffix=".jpg")
    return FileImages.found(tmp_path, [file.name for file in saved], range(10))


def test_normalises_as_torchvision_does(in_memory: ArrayImages) -> None:
    from torchvision.transforms import functional as tv

    shown = torch.cat([batch.images_BCHW for batch in show(in_memory)])
    expected = tv.normalize(in_memory.images_NCHW.float() / 255, MEAN, STD)
    assert (shown - expected).abs().max() < 2e-6


def test_order_labels_and_views_follow_the_arguments(in_memory: ArrayImages) -> None:
    indices = np.array([7, 0, 0, 3, 9])
    ids = draw(1, 1, indices, 162)
    shown = show(in_memory, indices=indices, view_ids=ids, batch_size=2)
    assert [len(batch.labels_B) for batch in shown] == [2, 2, 1]
    assert torch.cat([batch.indices_B for batch in shown]).tolist() == indices.tolist()
    assert torch.cat([batch.labels_B for batch in shown]).tolist() == [77, 0, 0, 33, 99]
    at_once = show(in_memory, indices=indices, view_ids=ids, batch_size=5)[0]
    assert torch.equal(torch.cat([batch.images_BCHW for batch in shown]), at_once.images_BCHW)


def test_the_last_batch_may_be_smaller(in_memory: ArrayImages, files: FileImages) -> None:
    assert [len(batch.labels_B) for batch in show(in_memory)] == [4, 4, 2]
    assert [len(batch.labels_B) for batch in show(files, views=CropFlip(size=24, resize=32))] == [4, 4, 2]


@pytest.mark.parametrize("channels_last", [False, True])
def test_memory_format(in_memory: ArrayImages, channels_last: bool) -> None:
    layout = torch.channels_last if channels_last else torch.contiguous_format
    shown = show(in_memory, normaliser=Normaliser(MEAN, STD, torch.device("cpu"), channels_last))
    assert all(b.images_BCHW.is_contiguous(memory_format=layout) for b in shown)


@pytest.mark.parametrize("views", [CropFlip(size=24, resize=32), RandomResizedCrop(size=24, resize=32)])
def test_files_are_the_same_for_any_number_of_workers(files: FileImages, views: CropFlip | RandomResizedCrop) -> None:
    ids = draw(0, 2, np.arange(10), views.num_views)
    for view_ids in (ids, None):
        here = show(files, views=views, view_ids=view_ids)
        there = show(files, views=views, view_ids=view_ids, num_workers=2)
        assert len(here) == len(there) == 3
        for one, other in zip(here, there, strict=True):
            assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def test_files_in_memory_show_the_same_pixels_as_files(files: FileImages) -> None:
    views = CropFlip(size=24, resize=32)
    held = files.held(views, torch.device("cpu"), threads=2)
    assert isinstance(held, ArrayImages)
    ids = draw(0, 2, np.arange(10), views.num_views)
    for view_ids in (ids, None):
        pairs = zip(
            show(files, views=views, view_ids=view_ids),
            show(held, views=views, view_ids=view_ids),
            strict=True,
        )
        assert all(torch.equal(one.images_BCHW, other.images_BCHW) for one, other in pairs)


@pytest.mark.parametrize("num_workers", [0, 2])
def test_a_broken_file_is_one_line_with_its_name(files: FileImages, num_workers: int) -> None:
    broken = files.root / files.names[6]
    broken.write_bytes(broken.read_bytes()[:200])
    with pytest.raises(DataError, match=broken.name) as caught:
        show(files, views=CropFlip(size=24, resize=32), num_workers=num_workers)
    assert "\n" not in str(caught.value)


def test_wrong_arguments_are_refused(in_memory: ArrayImages) -> None:
    with pytest.raises(ValueError, match="batch_size >= 1"):
        show(in_memory, batch_size=0)
    with pytest.raises(ValueError, match="10 view ids"):
        show(in_memory, view_ids=[1, 2])


def test_files_are_held_in_memory_once_and_only_where_they_fit(
    files: FileImages, monkeypatch: pytest.MonkeyPatch
) -> None:
    cpu = torch.device("cpu")
    assert files.held(RandomResizedCrop(size=24, resize=32), cpu, 1) is files
    monkeypatch.setattr(image_sets, "_MOST_HELD", 10 * 3 * 32 * 32 - 1)
    assert files.held(CropFlip(size=24, resize=32), cpu, 1) is files
    monkeypatch.setattr(image_sets, "_MOST_HELD", 10 * 3 * 32 * 32)
    held = files.held(CropFlip(size=24, resize=32), cpu, 1)
    assert isinstance(held, ArrayImages)
    assert files.held(CropFlip(size=28, pad=1, resize=32), cpu, 1) is held
    with pytest.raises(DataError, match="must be 32 x 32"):  # those were resized, these views ask for files of 32
        files.held(CropFlip(size=32, pad=4), cpu, 1)
    monkeypatch.setattr(image_sets, "free_memory", lambda: 0)
    assert files.held(CropFlip(size=24, resize=30), cpu, 1) is files


def test_files_of_another_size_are_named_where_views_do_not_resize(files: FileImages) -> None:
    for views in (CropFlip(size=32, pad=4), RotateFlip(size=32)):
        with pytest.raises(DataError, match=rf"{files.names[0]}: must be 32 x 32 .* but got 64 x 64; take crop_flip"):
            show(files, views=views)
        with pytest.raises(DataError, match="must be 32 x 32"):
            files.held(views, torch.device("cpu"), 1)


def test_decoding_begins_before_a_batch_is_asked_for(files: FileImages) -> None:
    decoded = threading.Event()
    views = CropFlip(size=24, resize=32)

    class Told(FileImages):
        def source(self, index: int, views: Any) -> Image:
            if index == 7:
                decoded.set()
            return super().source(index, views)

    told = Told(files.root, files.names, files.sizes_N, files.labels_N)
    shown = begun(told, views=views, num_workers=1)
    assert next(shown).indices_B.tolist() == [0, 1, 2, 3]
    assert decoded.wait(30)  # while the first batch is in use
