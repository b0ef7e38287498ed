"""Tiny-ImageNet: 64 x 64 JPEGs of up to 200 classes, held in memory.

Reads the original layout (``train/WNID/images/*``, ``val/images/*`` with ``val/val_annotations.txt``) and the usual
rearrangement (``train/WNID/*``, ``val/WNID/*``). Its test labels were never published, so papers report on the
official val folder: here that is the test set, and our val is taken from train.
"""

from pathlib import Path

from icd.data.folders import class_folders, images_by_class, inside, lines
from icd.data.images import FileImages, decoded
from icd.data.split import Request, Rgb, Split, make_split
from icd.data.views import Identity
from icd.errors import DataError

_SIDE = 64
_FOLDER = "tiny-imagenet-200"
_ANNOTATIONS = "val_annotations.txt"
_MEAN: Rgb = (0.4802, 0.4481, 0.3975)
_STD: Rgb = (0.2302, 0.2265, 0.2262)


def load(request: Request) -> Split:
    """Decode the images of ``root``, ``root/tiny-imagenet-200`` or ``root/PATH``, test images when they are opened."""
    root = request.file("tiny_imagenet") if request.path else request.folder("tiny_imagenet")
    folder = root / _FOLDER if (root / _FOLDER).is_dir() else root
    for part in ("train", "val"):
        if not (folder / part).is_dir():
            where = f"{root} or {root / _FOLDER}"
            raise DataError(f"tiny_imagenet: no folder {part!r} in {where}; unpack the data set there")
    class_names = class_folders(folder / "train")
    if not class_names:
        raise DataError(f"{folder / 'train'}: has no class folders; unpack the data set again")
    images, test = images_by_class(folder, "train", class_names), _test_files(folder, class_names)
    views = Identity(size=_SIDE)
    train = decoded(images, views)
    return make_split(request, "tiny_imagenet", train, lambda: decoded(test, views), class_names, mean=_MEAN, std=_STD)


def _test_files(folder: Path, class_names: tuple[str, ...]) -> FileImages:
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
