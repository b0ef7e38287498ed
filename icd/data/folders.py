"""Trees of class folders, ``train/CLASS/*`` and ``test/CLASS/*`` or ``val/CLASS/*``: ImageNet as usually unpacked.

Also the small text files that come with some data sets.
"""

from collections import Counter
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from icd.data.decode import IMAGE_SUFFIXES
from icd.data.images import FileImages
from icd.data.split import Request, Split, make_split
from icd.errors import DataError

# What archivers, network disks and desktops leave behind; names that begin with a dot are hidden as well.
_SYSTEM = frozenset(
    ("__MACOSX", "@eaDir", "$RECYCLE.BIN", "System Volume Information", "lost+found", "Thumbs.db", "desktop.ini")
)
_HIDDEN = "hidden or of the system"


def load_imagefolder(request: Request) -> Split:
    """List the images of the folder ``path``, or ``root``; nothing is decoded before it is shown.

    The outer ``val`` folder is what papers report on, so here it is the test set; our val is taken from train.
    """
    folder = request.file("imagefolder") if request.path else request.folder("imagefolder")
    if not (folder / "train").is_dir():
        raise DataError(f"{folder}: has no folder 'train'; expected train/CLASS/*.jpg and test/CLASS/*.jpg")
    class_names = class_folders(folder / "train")
    # ImageNet's own `test` has no labels and so no class folders: then `val` it is.
    tests = [part for part in ("test", "val") if (folder / part).is_dir() and class_folders(folder / part)]
    if not class_names or not tests:
        where = "train" if not class_names else "test' or 'val"
        raise DataError(f"{folder}: '{where}' must have class folders; results need images that were not trained on")
    images_of = partial(images_by_class, folder, class_names=class_names)
    return make_split(request, "imagefolder", images_of("train"), partial(images_of, tests[0]), class_names)


def class_folders(folder: Path) -> tuple[str, ...]:
    """Give the names of the class folders in a folder, sorted; hidden and system entries are not classes."""
    return tuple(sorted(entry.name for entry in folder.iterdir() if not _is_hidden(entry.name) and entry.is_dir()))


def images_by_class(root: Path, part: str, class_names: Sequence[str]) -> FileImages:
    """Find the images of ``root/part/CLASS``, sorted by class and name; its ``skipped`` counts what is none.

    Raises:
        DataError: If a class has no image, or the folder has one that is no class.
    """
    strangers = sorted(set(class_folders(root / part)) - set(class_names))
    if strangers:
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
    found = Counter(_HIDDEN for entry in folder.iterdir() if _is_hidden(entry.name))
    found["in no class folder"] = sum(entry.is_file() and not _is_hidden(entry.name) for entry in folder.iterdir())
    return +found


def _divided(folder: Path) -> tuple[list[Path], Counter[str]]:
    """Give the images below a class folder, sorted, and count the other files by suffix."""
    files, others = [], Counter[str]()
    for file in folder.rglob("*"):
        suffix = file.suffix.lower()
        if any(_is_hidden(name) for name in file.relative_to(folder).parts):
            others[_HIDDEN] += 1
        elif file.is_dir():
            continue
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
