import copy
import logging
import os
from pathlib import Path

import numpy as np
import pytest
import torch

from icd.data.images import ArrayImages, FileImages, decoded, file_groups, pixel_groups
from icd.data.split import ClosedTest, Request, Split, make_split, stratified_split
from icd.data.views import Identity
from icd.errors import DataError, TestSetClosedError
from tests.data_contract import picture, save_pictures
from tests.unit.data.test_confirmation_split import WAYS


def some_images(count: int = 12, num_classes: int = 3) -> ArrayImages:
    pixels = torch.randint(0, 256, (count, 3, 4, 4), dtype=torch.uint8, generator=torch.Generator().manual_seed(count))
    return ArrayImages(pixels, torch.arange(count) % num_classes)


def test_split_is_stratified_and_complete() -> None:
    labels = np.repeat(np.arange(10), np.arange(10, 110, 10))
    train, val = stratified_split(labels, np.arange(len(labels)), val_fraction=0.1, seed=0)
    assert np.array_equal(np.sort(np.concatenate((train, val))), np.arange(len(labels)))
    assert np.bincount(labels[val]).tolist() == list(range(1, 11))


def test_a_class_gives_its_share_rounded() -> None:
    labels = np.repeat([0, 1, 2], [7, 9, 11])  # a quarter is 1.75, 2.25 and 2.75
    _, val = stratified_split(labels, np.arange(len(labels)), val_fraction=0.25, seed=0)
    assert np.bincount(labels[val]).tolist() == [2, 2, 3]


def test_split_is_a_function_of_its_seed() -> None:
    labels = np.arange(200) % 5
    first = stratified_split(labels, np.arange(200), val_fraction=0.2, seed=1)
    again = stratified_split(labels, np.arange(200), val_fraction=0.2, seed=1)
    other = stratified_split(labels, np.arange(200), val_fraction=0.2, seed=2)
    assert np.array_equal(first[1], again[1])
    assert not np.array_equal(first[1], other[1])


def test_names_of_groups_do_not_matter() -> None:
    labels, groups = np.arange(60) % 4, np.arange(60) // 3
    renamed = np.random.default_rng(0).permutation(1000)[groups]
    first = stratified_split(labels, groups, val_fraction=0.3, seed=1)[1]
    assert np.array_equal(first, stratified_split(labels, renamed, val_fraction=0.3, seed=1)[1])


@pytest.mark.parametrize("seed", range(20))
def test_duplicates_stay_on_one_side(seed: int) -> None:
    random = np.random.default_rng(seed)
    labels, groups = random.integers(0, 6, 300), random.integers(0, 120, 300)
    train, val = stratified_split(labels, groups, val_fraction=0.25, seed=seed)
    assert not set(groups[train]) & set(groups[val])
    # Groups here hold several labels each, and still no class loses either side.
    assert set(labels[train]) == set(labels[val]) == set(range(6))


@pytest.mark.parametrize(
    ("labels", "groups", "in_val"),
    [
        ([0, 0, 1, 1], [0, 1, 2, 3], {0: 1, 1: 1}),  # two images: one each
        ([0, 0, 1], [0, 1, 2], {0: 1, 1: 0}),  # one image: train
        ([0, 0, 1, 1], [0, 0, 2, 3], {0: 0, 1: 1}),  # two copies of one image: train
        ([0, 1, 0, 1], [0, 0, 1, 1], {0: 1, 1: 1}),  # images that carry two labels
    ],
)
def test_smallest_classes(labels: list[int], groups: list[int], in_val: dict[int, int]) -> None:
    _, val = stratified_split(labels, groups, val_fraction=0.5, seed=0)
    assert np.bincount(np.array(labels)[val], minlength=2).tolist() == [in_val[0], in_val[1]]


@pytest.mark.parametrize("val_fraction", [0, -0.1, 0.51, float("nan")])
def test_impossible_shares_are_refused(val_fraction: float) -> None:
    with pytest.raises(ValueError, match=r"0 < val_fraction <= 0\.5"):
        stratified_split([0, 0], [0, 1], val_fraction=val_fraction, seed=0)


def test_equal_pixels_are_one_group() -> None:
    images = some_images()
    twice = ArrayImages(images.images_NCHW[[0, 1, 2, 1, 0]], torch.arange(5))
    assert pixel_groups(twice).tolist() == [0, 1, 2, 1, 0]


def test_equal_files_are_one_group(tmp_path: Path) -> None:
    files = save_pictures(tmp_path / "a", 3, first=0)
    (tmp_path / "copy.png").write_bytes(files[1].read_bytes())
    names = [file.relative_to(tmp_path).as_posix() for file in files] + ["copy.png"]
    groups = file_groups(FileImages.found(tmp_path, names, [0, 0, 0, 0]))
    assert groups[3] == groups[1]
    assert len(set(groups.tolist())) == 3


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    first, second = save_pictures(tmp_path, 2, first=0)
    second.write_bytes(first.read_bytes())  # of one size, so both are read
    files = FileImages.found(tmp_path, [first.name, second.name], [0, 1])
    second.unlink()
    with pytest.raises(DataError, match=f"{second.name}: cannot be read"):
        file_groups(files)


def test_every_class_needs_a_training_image() -> None:
    request = Request(root=None, path=None, val_fraction=0.2, split_seed=0)
    with pytest.raises(DataError, match=r"class 'd' has no training image"):
        make_split(request, "made", some_images(), some_images, class_names="abcd")


def test_equal_images_of_a_data_set_stay_on_one_side() -> None:
    images = some_images(20, 1)
    doubled = ArrayImages(torch.cat([images.images_NCHW] * 2), torch.zeros(40, dtype=torch.int64))
    request = Request(root=None, path=None, val_fraction=0.5, split_seed=0)
    split = make_split(request, "made", doubled, some_images, class_names="a")
    assert isinstance(split.train, ArrayImages)
    assert isinstance(split.val, ArrayImages)
    seen = [{image.numpy().tobytes() for image in part.images_NCHW} for part in (split.train, split.val)]
    assert [len(part) for part in (split.train, split.val)] == [20, 20]
    assert not seen[0] & seen[1]


def test_digest_ignores_the_split_and_split_digest_the_pixels() -> None:
    def split(seed: int, names: str = "abc") -> Split:
        request = Request(root=None, path=None, val_fraction=0.2, split_seed=seed)
        return make_split(request, "made", some_images(60), some_images, class_names=names)

    first, other, renamed = split(0), split(1), split(0, "xyz")
    assert first.digest == other.digest != renamed.digest
    assert first.split_digest == renamed.split_digest != other.split_digest
    assert first.train.digest != other.train.digest


def test_a_closed_test_set_refuses_every_access_but_open() -> None:
    def never() -> ArrayImages:
        raise AssertionError("the test images were loaded")

    test = ClosedTest(never)
    for name, access in WAYS.items():
        if name not in ("open", "loader"):
            with pytest.raises(TestSetClosedError, match="the test set is closed"):
                access(test)
    assert copy.copy(test).looks == []


def test_opening_the_test_set_is_counted_and_logged(caplog: pytest.LogCaptureFixture) -> None:
    test = ClosedTest(some_images)
    with caplog.at_level(logging.INFO):
        assert len(test.open("confirm seed 0")) == 12
        test.open("confirm seed 1")
    with pytest.raises(ValueError, match="purpose"):
        test.open("  ")
    assert test.looks == ["confirm seed 0", "confirm seed 1"]
    assert "confirm seed 1" in caplog.text


def test_array_digest_sees_pixels_labels_and_order() -> None:
    images = some_images()
    changed = images.images_NCHW.clone()
    changed[3, 0, 0, 0] ^= 1
    digests = {
        images.digest,
        ArrayImages(changed, images.labels_N).digest,
        ArrayImages(images.images_NCHW, images.labels_N.flip(0)).digest,
        images.subset(np.arange(12)[::-1].copy()).digest,
    }
    assert len(digests) == 4
    assert images.subset(np.arange(12)).digest == images.digest == images.to("cpu").digest


def test_arrays_of_the_wrong_kind_are_refused() -> None:
    with pytest.raises(ValueError, match="uint8"):
        ArrayImages(torch.zeros(2, 3, 4, 4), torch.zeros(2, dtype=torch.int64))
    with pytest.raises(ValueError, match="one label for each of 2 images"):
        ArrayImages(torch.zeros(2, 3, 4, 4, dtype=torch.uint8), torch.zeros(3, dtype=torch.int64))


def test_file_digest_sees_names_sizes_labels_and_the_bytes_of_files_of_one_size(tmp_path: Path) -> None:
    save_pictures(tmp_path / "a", 2, first=0)
    names = ["a/a_0.png", "a/a_1.png"]
    first = FileImages.found(tmp_path, names, [0, 1])
    relabelled = FileImages.found(tmp_path, names, [1, 0])
    picture(5, 50).save(tmp_path / "a/a_1.png")
    replaced = FileImages.found(tmp_path, names, [0, 1])
    assert len({first.digest, relabelled.digest, replaced.digest}) == 3
    assert first.subset([1, 0]).subset([1, 0]).digest == first.digest
    bitmaps, digests = ["a/0.bmp", "a/1.bmp"], set()
    for shade in (7, 8):
        for number, name in enumerate(bitmaps):
            picture(number + shade, 50).save(tmp_path / name)
        digests.add(FileImages.found(tmp_path, bitmaps, [0, 1]).digest)
    assert len(digests) == 2


@pytest.mark.parametrize("damage", ["truncated", "text", "flipped header"])
@pytest.mark.parametrize("suffix", [".png", ".jpg"])
def test_a_broken_image_is_named(tmp_path: Path, damage: str, suffix: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from PIL import ImageFile

    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)  # as some library may have done
    file = save_pictures(tmp_path, 1, first=0, suffix=suffix)[0]
    whole = file.read_bytes()
    file.write_bytes(
        {"truncated": whole[: len(whole) // 2], "text": b"hello", "flipped header": b"\0" + whole[1:]}[damage]
    )
    images = FileImages.found(tmp_path, [file.name], [0])
    with pytest.raises(DataError, match=file.name) as caught:
        images.source(0, Identity(size=4))
    assert "\n" not in str(caught.value)


def test_files_that_are_missing_empty_or_not_named_in_utf_8_are_named(tmp_path: Path) -> None:
    (tmp_path / "empty.jpg").touch()
    with pytest.raises(DataError, match=r"empty\.jpg: the image file is empty"):
        FileImages.found(tmp_path, ["empty.jpg"], [0])
    with pytest.raises(DataError, match=r"gone\.jpg: .* not there"):
        FileImages.found(tmp_path, ["gone.jpg"], [0])
    with pytest.raises(DataError, match=r"file names must be UTF-8, but got b'a/caf\\xe9\.jpg'; rename it"):
        FileImages.found(tmp_path, [os.fsdecode(b"a/caf\xe9.jpg")], [0])


def test_decoding_into_memory_keeps_the_order(tmp_path: Path) -> None:
    files = save_pictures(tmp_path, 9, first=0)
    images = decoded(FileImages.found(tmp_path, [file.name for file in files], range(9)), Identity(size=64), threads=3)
    expected = [np.asarray(picture(number).resize((64, 64))).transpose(2, 0, 1) for number in range(9)]
    assert np.array_equal(images.images_NCHW.numpy(), np.stack(expected))
    assert images.labels_N.tolist() == list(range(9))
