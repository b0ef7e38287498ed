"""Class-folder trees: ``FOLDER/CLASS/**/IMAGE``, and the small text files that come with some data sets."""

from collections.abc import Sequence
from pathlib import Path

from icd.data.images import IMAGE_SUFFIXES, FileImages
from icd.errors import DataError


def class_folders(folder: Path) -> tuple[str, ...]:
    """Give the names of the class folders in a folder, sorted; hidden ones are not classes."""
    return tuple(sorted(entry.name for entry in folder.iterdir() if entry.is_dir() and entry.name[0] != "."))


def images_by_class(root: Path, part: str, class_names: Sequence[str]) -> FileImages:
    """Find the images of ``root/part/CLASS``, sorted by class and name.

    Raises:
        DataError: If a class has no image, or the folder has one that is no class.
    """
    strangers = sorted(set(class_folders(root / part)) - set(class_names))
    if strangers:
        raise DataError(f"{root / part / strangers[0]}: no such class in the training folder; remove or rename it")
    names, labels = [], []
    for label, class_name in enumerate(class_names):
        folder = root / part / class_name
        files = sorted(file for file in folder.rglob("*") if file.suffix.lower() in IMAGE_SUFFIXES)
        if not files:
            raise DataError(f"{folder}: the class has no image; every class needs one, unpack the data set again")
        names += [file.relative_to(root).as_posix() for file in files]
        labels += [label] * len(files)
    return FileImages.found(root, names, labels)


def lines(file: Path, num_columns: int) -> list[list[str]]:
    """Read a text file of columns separated by blanks; the last column keeps its blanks."""
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{file}: cannot be read ({error}); unpack the data set again") from error
    rows = [line.split(maxsplit=num_columns - 1) for line in text.splitlines() if line.strip()]
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
