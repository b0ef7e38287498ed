"""Each data set's own rules: layouts accepted, broken ones refused with the file's name."""

import pickle
import re
import zipfile
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from icd.data import DATASETS, Request
from icd.data.images import ArrayImages, FileImages, telling
from icd.data.split import Split
from icd.errors import DataError
from tests.data_contract import (
    CLASSES,
    make_cifar,
    make_cub,
    make_imagefolder,
    make_tiny,
    npz_arrays,
    save_pictures,
)


def load(name: str, root: Path | None, path: str | None = None, **options: Any) -> Split:
    return DATASETS[name].load(Request(root=root, path=path, val_fraction=0.25, split_seed=0), **options)


def refusal(name: str, root: Path | None, path: str | None = None, **options: Any) -> str:
    """The one line a user sees."""
    with pytest.raises(DataError) as caught:
        load(name, root, path, **options).test.open("look at all of it")
    assert "\n" not in str(caught.value)
    return str(caught.value)


# --- all of them


@pytest.mark.parametrize("name", ["cifar10", "cifar100", "cub200", "tiny_imagenet", "imagefolder", "npz"])
def test_missing_data_says_where_it_was_looked_for(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert "pass --data-root" in refusal(name, None) or name == "npz"
    path = "nowhere" if name == "npz" else None
    assert str(tmp_path) in refusal(name, tmp_path, path)
    assert "--data-root" in refusal(name, tmp_path / "gone", "x")


@pytest.mark.parametrize(
    ("name", "make"), [("imagefolder", make_imagefolder), ("cub200", make_cub), ("tiny_imagenet", make_tiny)]
)
def test_files_are_told_one_by_one_as_they_are_looked_up_and_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, make: Callable[[Path], None]
) -> None:
    """A hundred thousand of them on a slow disk take longer than a watchdog waits for a step."""
    looks, silent, told = [0], [0], [0]

    def counted(original: Callable[..., Any]) -> Callable[..., Any]:
        def look(path: Path, *more: Any, **options: Any) -> Any:
            looks[0] += path.suffix in (".png", ".JPEG")
            silent[0] = max(silent[0], looks[0] - told[0])
            return original(path, *more, **options)

        return look

    def tell() -> None:
        told[0] = looks[0]

    make(tmp_path)
    for method in ("stat", "read_bytes"):
        monkeypatch.setattr(Path, method, counted(getattr(Path, method)))
    with telling(tell):
        load(name, tmp_path).test.open("as a confirmation does")
    assert looks[0] >= 18
    assert silent[0] <= 2


def test_images_that_are_decoded_at_once_are_told_one_by_one(tmp_path: Path) -> None:
    told = list[int]()
    make_tiny(tmp_path)
    split = load("tiny_imagenet", tmp_path)
    with telling(lambda: told.append(1)):
        split.test.open("as a confirmation does")
    assert len(told) == len(CLASSES)


# --- CIFAR


def test_cifar_arrays_are_those_of_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = make_cifar(tmp_path, monkeypatch, "cifar100")
    split = load("cifar100", tmp_path)
    test = split.test.open("compare with the file")
    assert isinstance(test, ArrayImages)
    expected = pickle.loads((folder / "test").read_bytes())["data"].reshape(-1, 3, 32, 32)
    assert np.array_equal(test.images_NCHW.numpy(), expected)
    assert split.class_names == CLASSES


def test_the_first_images_of_each_class_can_be_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = make_cifar(tmp_path, monkeypatch, "cifar10")
    split = load("cifar10", tmp_path, train_per_class=2)
    assert isinstance(split.train, ArrayImages)
    assert isinstance(split.val, ArrayImages)
    kept = {image.numpy().tobytes() for part in (split.train, split.val) for image in part.images_NCHW}
    first = pickle.loads((folder / "data_batch_1").read_bytes())["data"][: 2 * len(CLASSES)]  # labels take turns
    assert kept == {image.tobytes() for image in first}
    assert split.digest != load("cifar10", tmp_path).digest


@pytest.mark.parametrize("name", ["cifar10", "cifar100"])
def test_cifar_files_with_another_checksum_are_named_and_never_unpickled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    file, canary = make_cifar(tmp_path, monkeypatch, name), tmp_path / "canary"
    file /= "test_batch" if name == "cifar10" else "test"
    file.write_bytes(pickle.dumps(Hostile(canary)))
    assert f"{file}: has another checksum; remove it and run with --download" in refusal(name, tmp_path)
    file.unlink()
    assert f"{file}: is missing; run with --download" in refusal(name, tmp_path)
    assert not canary.exists()


class Hostile:
    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self) -> tuple[object, tuple[str, str]]:
        return open, (str(self.canary), "w")


def test_without_a_data_root_the_users_cache_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    root = tmp_path / "cache" / "icd" / "data"
    assert f"{root} is not there; run with --download, or pass --data-root" in refusal("cifar10", None)
    fetched: list[str] = []

    def fetch(url: str, folder: str, filename: str, md5: str) -> None:
        fetched.append(folder)
        make_cifar(Path(folder), monkeypatch, "cifar10")

    monkeypatch.setattr("torchvision.datasets.cifar.download_and_extract_archive", fetch)
    split = DATASETS["cifar10"].load(Request(root=None, path=None, val_fraction=0.25, split_seed=0, download=True))
    assert (fetched, len(split.train) + len(split.val)) == ([str(root)], 150)
    assert load("cifar10", None).digest == split.digest


# --- NPZ


def save_npz(root: Path, **changes: Any) -> str:
    arrays = {name: value for name, value in {**npz_arrays(), **changes}.items() if value is not None}
    np.savez(root / "x.npz", **arrays)
    return "x.npz"


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("x_train", np.zeros((30, 3, 32, 32), np.uint8), r"must be uint8 \[N, H, W, 3\]"),
        ("x_train", np.zeros((30, 32, 32, 3), np.float32), "but got float32"),
        ("x_train", np.zeros((30, 32, 16, 3), np.uint8), r"but got uint8 \[30, 32, 16, 3\]"),
        ("x_train", np.zeros((0, 32, 32, 3), np.uint8), r"but got uint8 \[0, 32"),
        ("y_train", np.zeros(29, np.int64), r"must be integers \[30\].*but got int64 \[29\]"),
        ("y_train", np.zeros(30), "but got float64"),
        ("y_train", np.full(30, 3), r"labels must be in 0\.\.2 .*but got 3"),
        ("y_train", np.full(30, -1), "but got -1"),
        ("y_test", np.full(9, 7), r"labels must be in 0\.\.2 .*but got 7"),
        ("x_test", np.zeros((9, 16, 16, 3), np.uint8), "x_train's side 32"),
        ("y_test", np.zeros(8, np.int64), r"must be integers \[9\]"),
        ("class_names", np.array([b"a", b"b", b"c"]), "must be strings"),
        ("class_names", np.array(["a", "b", "a"]), "different from each other"),
        ("class_names", np.array(["a", object(), "c"]), "allow_pickle=False"),
        ("mean", np.array([120.0, 120.0, 110.0]), r"three floats in 0\.\.1"),
        ("x_test", None, "is missing"),
        ("class_names", None, "is missing"),
    ],
)
def test_wrong_arrays_are_named(tmp_path: Path, name: str, value: object, message: str) -> None:
    line = refusal("npz", tmp_path, save_npz(tmp_path, **{name: value}))
    assert f"x.npz: array {name!r}" in line
    assert re.search(message, line)


def test_wrong_test_arrays_are_found_before_the_test_set_is_opened(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="x_test"):
        load("npz", tmp_path, save_npz(tmp_path, x_test=np.zeros((9, 32, 32), np.uint8)))


def test_a_file_that_is_no_npz_is_named(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.zeros(3))
    assert "x.npy" in refusal("npz", tmp_path, "x.npy")
    whole = (tmp_path / save_npz(tmp_path)).read_bytes()
    (tmp_path / "half.npz").write_bytes(whole[: len(whole) // 2])
    assert "half.npz" in refusal("npz", tmp_path, "half.npz")


def test_a_damaged_array_is_named(tmp_path: Path) -> None:
    file = tmp_path / save_npz(tmp_path)
    with zipfile.ZipFile(file) as archive:
        middle = archive.getinfo("x_train.npy").header_offset + 5000
    content = bytearray(file.read_bytes())
    content[middle] ^= 255
    file.write_bytes(content)
    assert "array 'x_train' cannot be read (Bad CRC-32" in refusal("npz", tmp_path, "x.npz")


def test_an_npz_may_bring_its_normalisation(tmp_path: Path) -> None:
    own = {"mean": np.array([0.1, 0.2, 0.3]), "std": np.array([0.3, 0.2, 0.1])}
    split = load("npz", tmp_path, save_npz(tmp_path, **own))
    assert (split.mean, split.std) == ((0.1, 0.2, 0.3), (0.3, 0.2, 0.1))


def test_the_digest_sees_a_file_s_own_normalisation_and_no_other(tmp_path: Path) -> None:
    plain = load("npz", tmp_path, save_npz(tmp_path))
    own = [np.array([0.1, 0.2, 0.3]), np.array([0.3, 0.2, 0.1])]
    changed = [{"mean": own[0]}, {"mean": own[1]}, {"std": own[0]}, {"mean": own[0], "std": own[0]}]
    found = [load("npz", tmp_path, save_npz(tmp_path, **each)) for each in changed]
    assert len({split.digest for split in [plain, *found]}) == 5
    assert {split.split_digest for split in found} == {plain.split_digest}
    arrays = npz_arrays()
    whole = ArrayImages(torch.from_numpy(arrays["x_train"]).permute(0, 3, 1, 2), torch.from_numpy(arrays["y_train"]))
    assert plain.digest == sha256("\n".join([whole.digest, *plain.class_names]).encode()).hexdigest()


@pytest.mark.parametrize(("flag", "method", "why"), [(1, 0, "is encrypted"), (0, 9, "compression")])
def test_archives_that_cannot_be_unpacked_are_named(tmp_path: Path, flag: int, method: int, why: str) -> None:
    """With a password; as Deflate64."""
    file = tmp_path / save_npz(tmp_path)
    content = bytearray(file.read_bytes())
    for signature, place in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):  # each file's own header, and the list of all
        at = content.find(signature)
        while at >= 0:
            content[at + place] |= flag
            content[at + place + 2] |= method
            at = content.find(signature, at + 4)
    file.write_bytes(content)
    assert re.search(rf"array 'class_names' cannot be read \(.*{why}", refusal("npz", tmp_path, "x.npz"))


def test_one_image_in_each_class_leaves_none_to_validate_on(tmp_path: Path) -> None:
    arrays = npz_arrays()
    first = [int(np.flatnonzero(arrays["y_train"] == label)[0]) for label in range(3)]
    path = save_npz(tmp_path, x_train=arrays["x_train"][first], y_train=arrays["y_train"][first])
    assert "npz: needs two different images in a class at least, or none is left to validate on" in refusal(
        "npz", tmp_path, path
    )


# --- folders and lists


def test_cub_is_divided_as_its_list_says(tmp_path: Path) -> None:
    make_cub(tmp_path)
    split, same = load("cub200", tmp_path), load("cub200", tmp_path / "CUB_200_2011")
    assert split.digest == same.digest
    assert (len(split.train) + len(split.val), len(split.test.open("count"))) == (12, 6)
    assert split.class_names == ("001.ant", "002.bee", "003.cow")


@pytest.mark.parametrize(
    ("name", "old", "new", "message"),
    [
        ("images.txt", "001.ant/", "../", "must stay below"),
        ("images.txt", "001.ant_0.png", "001.ant_9.png", "not there"),
        ("image_class_labels.txt", "1 1\n", "1 4\n", r"image 1 .* but got '4'"),
        ("train_test_split.txt", "2 1\n", "", "image 2 .* but got None"),
        ("classes.txt", "2 002.bee", "2", r"classes\.txt:2: must have 2 columns, but got 1"),
    ],
)
def test_broken_cub_lists_are_named(tmp_path: Path, name: str, old: str, new: str, message: str) -> None:
    import re

    make_cub(tmp_path)
    file = tmp_path / "CUB_200_2011" / name
    file.write_text(file.read_text().replace(old, new, 1))
    line = refusal("cub200", tmp_path)
    assert re.search(message, line)
    assert str(tmp_path) in line


@pytest.mark.parametrize("original", [True, False])
def test_both_layouts_of_tiny_imagenet_are_read(tmp_path: Path, original: bool) -> None:
    make_tiny(tmp_path, original=original)
    split = load("tiny_imagenet", tmp_path)
    assert split.class_names == CLASSES
    assert len(split.train) + len(split.val) == 12
    assert sorted(split.test.open("look").labels_N.tolist()) == ([0, 1, 2] if original else [0, 0, 1, 1, 2, 2])


def test_a_broken_tiny_imagenet_test_file_is_only_met_when_opened(tmp_path: Path) -> None:
    make_tiny(tmp_path)
    file = tmp_path / "tiny-imagenet-200/val/images/val_1.JPEG"
    file.write_bytes(file.read_bytes()[:300])
    split = load("tiny_imagenet", tmp_path)
    with pytest.raises(DataError, match=r"val_1\.JPEG"):
        split.test.open("look")


def test_lists_without_a_test_image_are_named_before_the_test_set_is_opened(tmp_path: Path) -> None:
    make_tiny(tmp_path, original=True)
    annotations = tmp_path / "tiny-imagenet-200" / "val" / "val_annotations.txt"
    annotations.write_text("")
    assert f"{annotations}: has no line" in refusal("tiny_imagenet", tmp_path)
    make_cub(tmp_path / "cub")
    parts = tmp_path / "cub" / "CUB_200_2011" / "train_test_split.txt"
    parts.write_text(parts.read_text().replace(" 0\n", " 1\n"))
    assert f"{parts}: must leave images to test on" in refusal("cub200", tmp_path / "cub")


def test_unknown_class_in_tiny_imagenets_annotations_is_named(tmp_path: Path) -> None:
    make_tiny(tmp_path)
    file = tmp_path / "tiny-imagenet-200/val/val_annotations.txt"
    file.write_text(file.read_text().replace("bee", "emu"))
    assert "val_annotations.txt: 'emu' is no class" in refusal("tiny_imagenet", tmp_path)


@pytest.mark.parametrize("test", ["val", "test"])
def test_imagefolder_tests_on_test_or_val(tmp_path: Path, test: str) -> None:
    make_imagefolder(tmp_path / "pets", test)
    split = load("imagefolder", tmp_path, "pets")
    assert isinstance(split.train, FileImages)
    assert (len(split.train) + len(split.val), len(split.test.open("count"))) == (12, 6)


def test_imagefolder_without_labelled_test_images_uses_val(tmp_path: Path) -> None:
    make_imagefolder(tmp_path, "val")
    save_pictures(tmp_path / "test", 3, first=50)
    assert len(load("imagefolder", tmp_path).test.open("count")) == 6


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda folder: folder.rename(folder.with_name("emu")), "emu: no such class"),
        (lambda folder: folder.rename(folder.with_name(".emu")), "the class has no image"),
        (lambda folder: [file.unlink() for file in folder.iterdir()], "the class has no image"),
        (lambda folder: next(folder.iterdir()).write_bytes(b""), "the image file is empty"),
    ],
)
def test_what_lacks_among_test_images_is_told_while_the_test_set_is_closed(
    tmp_path: Path, change: Callable[[Path], object], told: str
) -> None:
    make_imagefolder(tmp_path, "test")
    change(sorted((tmp_path / "test").iterdir())[0])
    with pytest.raises(DataError, match=told):
        load("imagefolder", tmp_path)


def test_broken_class_folders_are_named(tmp_path: Path) -> None:
    make_imagefolder(tmp_path, "val")
    (tmp_path / "train" / "empty").mkdir()
    assert f"{tmp_path / 'train' / 'empty'}: the class has no image" in refusal("imagefolder", tmp_path)
    (tmp_path / "train" / "empty").rmdir()
    save_pictures(tmp_path / "val" / "emu", 1, first=0)
    assert f"{tmp_path / 'val' / 'emu'}: no such class" in refusal("imagefolder", tmp_path)
    (tmp_path / "val").rename(tmp_path / "other")
    assert "'test' or 'val' must have class folders" in refusal("imagefolder", tmp_path)
    assert refusal("imagefolder", tmp_path / "train").endswith("; data.path names the folder above 'train'")


def test_what_is_no_image_of_a_class_is_skipped_and_counted(tmp_path: Path) -> None:
    make_imagefolder(tmp_path)
    clean = load("imagefolder", tmp_path)
    assert clean.notes == ()
    train = tmp_path / "train"
    save_pictures(train / "__MACOSX" / "ant", 2, first=0)
    save_pictures(train / ".thumbnails", 2, first=0)
    (train / "ant" / "._ant_0.png").write_bytes(b"\0\5\x16\7")
    save_pictures(train / "ant" / "__MACOSX", 1, first=0)  # the folder is hidden, and what is in it
    (train / "bee" / "old.gif").write_bytes(b"GIF89a")
    (train / "bee" / "README").write_text("bees")
    (train / "labels.csv").write_text("")
    (train / "bee" / "more").symlink_to(train / "ant")
    (train / "bee" / "round").symlink_to(train)  # would never end
    found = load("imagefolder", tmp_path)
    assert (found.class_names, found.digest) == (clean.class_names, clean.digest)
    skipped = "5 hidden or of the system, 1 in no class folder, 2 linking to a folder, 1 with .gif, 1 without a suffix"
    assert found.notes == (f"{train}: skipped {skipped}",)


def test_a_class_of_unread_formats_says_which(tmp_path: Path) -> None:
    make_imagefolder(tmp_path)
    for file in (tmp_path / "train" / "cow").iterdir():
        file.rename(file.with_suffix(".tif"))
    assert "cow: the class has no image, only 4 with .tif" in refusal("imagefolder", tmp_path)
