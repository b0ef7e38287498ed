"""CUB-200-2011: 200 bird species, photographs of many sizes, the official division into train and test."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from icd.data.folders import inside, lines
from icd.data.images import FileImages
from icd.data.split import Request, Split, make_split
from icd.errors import DataError


def load(request: Request) -> Split:
    """List the images below ``root`` or ``root/CUB_200_2011``; nothing is decoded before it is shown."""
    root = request.folder("cub200")
    folder = root / "CUB_200_2011" if (root / "CUB_200_2011").is_dir() else root
    if not (folder / "images.txt").is_file():
        raise DataError(f"cub200: no images.txt in {root} or {root / 'CUB_200_2011'}; unpack CUB_200_2011.tgz there")
    class_names, names, labels_N, is_train_N = _lists(folder)
    images = FileImages.found(folder / "images", names, labels_N)
    train, test = images.subset(np.flatnonzero(is_train_N)), images.subset(np.flatnonzero(~is_train_N))
    return make_split(request, "cub200", train, lambda: test, class_names)


def _lists(folder: Path) -> tuple[list[str], list[str], NDArray[np.int64], NDArray[np.bool_]]:
    """Read the four lists: class names, image paths, labels int64 [N] and who is for training, bool [N]."""
    classes = lines(folder / "classes.txt", 2)
    label_of = {number: label for label, (number, _) in enumerate(classes)}
    images = lines(folder / "images.txt", 2)
    columns = []
    for name, allowed in (("image_class_labels.txt", label_of), ("train_test_split.txt", {"0": 0, "1": 1})):
        values = dict(lines(folder / name, 2))
        for number, image in images:
            if values.get(number) not in allowed:
                rule = f"image {number} ({image}) must have one of {len(allowed)} known values"
                raise DataError(f"{folder / name}: {rule}, but got {values.get(number)!r}; unpack the data set again")
        columns.append(np.array([allowed[values[number]] for number, _ in images], dtype=np.int64))
    names = [inside(folder / "images", name, folder / "images.txt") for _, name in images]
    return [name for _, name in classes], names, columns[0], columns[1] == 1
