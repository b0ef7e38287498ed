"""Data sets that are folders of image files: class folders (ImageNet), Tiny-ImageNet, and CUB-200-2011."""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from icd.data.decode import IMAGE_SUFFIXES
from icd.data.images import FileImages, decoded, tell
from icd.data.split import Request, Split, make_split
from icd.data.views import Identity
from icd.errors import DataError

# What archivers, network disks and desktops leave behind; names that begin with a dot are hidden as well.
_SYSTEM = frozenset(
    ("__MACOSX", "@eaDir", "$RECYCLE.BIN", "System Volume Information", "lost+found", "Thumbs.db", "desktop.ini")
)
_HIDDEN = "hidden or of the system"
_TINY_SIDE, _TINY_FOLDER, _ANNOTATIONS = 64, "tiny-imagenet-200", "val_annotations.txt"
_TINY_MEAN, _TINY_STD = (0.4802, 0.4481, 0.3975), (0.2302, 0.2265, 0.2262)


def load_imagefolder(request: Request) -> Split:
    """List the images of the folder ``path``, or ``root``, test images too; nothing is decoded before it is shown.

    The outer ``val`` folder is what papers report on, so here it is the test set; our val is taken from train.
    """
    folder = request.file_or_folder("imagefolder")
    class_names = class_folders(folder / "train")
    # ImageNet's own `test` has no labels and so no class folders: then `val` it is.
    tests = [part for part in ("test", "val") if class_folders(folder / part)]
    if not class_names or not tests:
        where = "train" if not class_names else "test' or 'val"
        rule = f"'{where}' must have class folders, as in train/CLASS/*.jpg and test/CLASS/*.jpg"
        above = "; data.path names the folder above 'train'" if folder.name in ("train", "test", "val") else ""
        raise DataError(f"{folder}: {rule}{above}")
    # What lacks among the test images is said now, and not when a finished search opens them.
    images, test = (images_by_class(folder, part, class_names) for part in ("train", tests[0]))
    return make_split(request, "imagefolder", images, lambda: test, class_names)


def load_tiny_imagenet(request: Request) -> Split:
    """Decode the images of ``root``, ``root/tiny-imagenet-200`` or ``root/PATH``, test images when they are opened.

    The original layout (``train/WNID/images/*``, ``val/images/*`` with ``val/val_annotations.txt``) or the usual
    rearrangement (``train/WNID/*``, ``val/WNID/*``). Its test labels were never published, so papers report on the
    official val folder: here that is the test set, and our val is taken from train.
    """
    root = request.file_or_folder("tiny_imagenet")
    folder = root / _TINY_FOLDER if (root / _TINY_FOLDER).is_dir() else root
    class_names = class_folders(folder / "train")
    if not class_names or not (folder / "val").is_dir():
        raise DataError(f"tiny_imagenet: {folder} must have train/CLASS/* and val; unpack the data set in {root}")
    images, test = images_by_class(folder, "train", class_names), _tiny_test_files(folder, class_names)
    views = Identity(size=_TINY_SIDE)
    train, closed = decoded(images, views), lambda: decoded(test, views)
    return make_split(request, "tiny_imagenet", train, closed, class_names, mean=_TINY_MEAN, std=_TINY_STD)


def _tiny_test_files(folder: Path, class_names: tuple[str, ...]) -> FileImages:
    """List the official val images from whichever layout there is."""
    annotations = folder / "val" / _ANNOTATIONS
    if not annotations.is_file():
        return images_by_class(folder, "val", class_names)
    label_of = {class_name: label for label, class_name in enumerate(class_names)}
    names, labels = [], []
    for name, class_name, _box in lines(annotations, 3):
        if class_name not in label_of:
            raise DataError(f"{annotations}: {class_name!r} is no class of the train folder; unpack the data set again")
        names.append(inside(folder, f"val/images/{name}", annotations))
        labels.append(label_of[class_name])
    return FileImages.found(folder, names, labels)


def load_cub200(request: Request) -> Split:
    """List the images below ``root`` or ``root/CUB_200_2011``, with the official division into train and test."""
    root = request.folder("cub200")
    folder = root / "CUB_200_2011" if (root / "CUB_200_2011").is_dir() else root
    if not (folder / "images.txt").is_file():
        raise DataError(f"cub200: no images.txt in {root} or {root / 'CUB_200_2011'}; unpack CUB_200_2011.tgz there")
    classes, listed = lines(folder / "classes.txt", 2), lines(folder / "images.txt", 2)
    label_of = {number: label for label, (number, _) in enumerate(classes)}
    labels = _values_of(listed, folder / "image_class_labels.txt", label_of)
    is_train = _values_of(listed, folder / "train_test_split.txt", {"0": 0, "1": 1})
    names = [inside(folder / "images", name, folder / "images.txt") for _, name in listed]
    images = FileImages.found(folder / "images", names, labels)
    if all(is_train):
        raise DataError(f"{folder / 'train_test_split.txt'}: must leave images to test on; unpack the data set again")
    test, train = (images.subset(np.flatnonzero(np.equal(is_train, part))) for part in (0, 1))
    return make_split(request, "cub200", train, lambda: test, [name for _, name in classes])


def _values_of(listed: list[list[str]], file: Path, allowed: Mapping[str, int]) -> list[int]:
    """Read what a file says of each listed image (number, path)."""
    values = dict(lines(file, 2))
    for number, image in listed:
        if values.get(number) not in allowed:
            rule = f"image {number} ({image}) must have one of {len(allowed)} known values"
            raise DataError(f"{file}: {rule}, but got {values.get(number)!r}; unpack the data set again")
    return [allowed[values[number]] for number, _ in listed]


def class_folders(folder: Path) -> tuple[str, ...]:
    """Give the names of the class folders in a folder, sorted; hidden and system entries are not classes."""
    entries = folder.iterdir() if folder.is_dir() else ()
    return tuple(sorted(entry.name for entry in entries if not _is_hidden(entry.name) and entry.is_dir()))


def images_by_class(root: Path, part: str, class_names: Sequence[str]) -> FileImages:
    """Find the images of ``root/part/CLASS``, sorted by class and name; its ``skipped`` counts what is none.

    Raises:
        DataError: If a class has no image, or the folder has one that is no class.
    """
    if strangers := sorted(set(class_folders(root / part)).difference(class_names)):
        raise DataError(f"{root / part / strangers[0]}: no such class in the training folder; remove or rename it")
    names, labels, skipped = [], [], _beside(root / part)
    for label, class_name in enumerate(class_names):
        folder = root / part / class_name
        files, others = _divided(folder)
        if not files:
            has = f", only {_counted(others)}" if others else ""
            raise DataError(f"{folder}: the class has no image{has}; every class needs one, unpack the data set again")
        names += [file.relative_to(root).as_posix() for file in files]
        labels += [label] * len(files)
        skipped += others
    return FileImages.found(root, names, labels, f"{root / part}: skipped {_counted(skipped)}" if skipped else "")


def _is_hidden(name: str) -> bool:
    return name.startswith(".") or name in _SYSTEM


def _beside(folder: Path) -> Counter[str]:
    """Count what is no class folder."""
    whats = ((_HIDDEN if _is_hidden(entry.name) else "in no class folder", entry) for entry in folder.iterdir())
    return Counter(what for what, entry in whats if what == _HIDDEN or entry.is_file())


def _divided(folder: Path) -> tuple[list[Path], Counter[str]]:
    """Give the images below a class folder, sorted, and count the other files by suffix."""
    files, others = [], Counter[str]()
    for file in folder.rglob("*"):
        tell()
        suffix = file.suffix.lower()
        if any(_is_hidden(name) for name in file.relative_to(folder).parts):
            others[_HIDDEN] += 1
        elif file.is_dir():
            if file.is_symlink():  # not followed: it may lead back to where it is
                others["linking to a folder"] += 1
        elif suffix in IMAGE_SUFFIXES:
            files.append(file)
        else:
            others[f"with {suffix}" if suffix else "without a suffix"] += 1
    return sorted(files), others


def _counted(skipped: Counter[str]) -> str:
    return ", ".join(f"{count} {what}" for what, count in sorted(skipped.items()))


def lines(file: Path, num_columns: int) -> list[list[str]]:
    """Read a text file of columns separated by blanks; the last column keeps its blanks."""
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{file}: cannot be read ({error}); unpack the data set again") from error
    rows = [line.split(maxsplit=num_columns - 1) for line in text.splitlines() if line.strip()]
    if not rows:
        raise DataError(f"{file}: has no line; unpack the data set again")
    for number, row in enumerate(rows, start=1):
        if len(row) != num_columns:
            raise DataError(f"{file}:{number}: must have {num_columns} columns, but got {len(row)}; unpack it again")
    return rows


def inside(root: Path, name: str, file: Path) -> str:
    """Accept a relative path from a list file that stays below ``root``."""
    path = Path(name)
    if path.is_absolute() or ".." in path.parts:
        raise DataError(f"{file}: image paths must stay below {root}, but got {name!r}; unpack the data set again")
    return path.as_posix()
