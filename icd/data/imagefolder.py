"""Any tree of class folders: ``train/CLASS/*`` and ``test/CLASS/*`` or ``val/CLASS/*``; ImageNet as usually unpacked.

The outer ``val`` folder is what papers report on, so here it is the test set; our val is taken from train.
"""

from icd.data.folders import class_folders, images_by_class
from icd.data.split import Request, Split, make_split
from icd.errors import DataError


def load(request: Request) -> Split:
    """List the images of the folder ``path``, or ``root``; nothing is decoded before it is shown."""
    folder = request.file("imagefolder") if request.path else request.folder("imagefolder")
    if not (folder / "train").is_dir():
        raise DataError(f"{folder}: has no folder 'train'; expected train/CLASS/*.jpg and test/CLASS/*.jpg")
    class_names = class_folders(folder / "train")
    # ImageNet's own `test` has no labels and so no class folders: then `val` it is.
    tests = [part for part in ("test", "val") if (folder / part).is_dir() and class_folders(folder / part)]
    if not class_names or not tests:
        where = "train" if not class_names else "test' or 'val"
        raise DataError(f"{folder}: '{where}' must have class folders; results need images that were not trained on")
    images = images_by_class(folder, "train", class_names)
    return make_split(
        request, "imagefolder", images, lambda: images_by_class(folder, tests[0], class_names), class_names
    )
