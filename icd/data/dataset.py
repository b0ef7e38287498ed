"""The row of ``DATASETS`` that describes a data set, and the checks of what a file asks of it."""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from icd.data.split import Request, Split
from icd.data.views import ViewFamily
from icd.errors import Problem

__all__ = ["CIFAR100_MEAN", "CIFAR100_STD", "DatasetRow", "Request"]

CIFAR100_MEAN, CIFAR100_STD = (0.5071, 0.4867, 0.4408), (0.2675, 0.2565, 0.2761)


@dataclass(frozen=True, slots=True, kw_only=True)
class DatasetRow:
    """One row of ``DATASETS``: how to load, and the defaults that a training or a user may override."""

    load: Callable[..., Split]  # load(request, **options)
    summary: str
    num_classes: int | None = None  # None: as many as the files have
    image_size: int | None = None  # of images held in memory, where it is known; None: as the files say
    from_files: bool = False  # whether images are files of any size, decoded when they are shown
    augmentation: ViewFamily
    preset: str  # the training of the papers, a table of config/presets.toml
    needs_path: bool = False
    horizontal_flip: bool = True  # whether a mirrored image keeps its class

    @property
    def options(self) -> Mapping[str, Any]:
        """The data set's own options with their defaults, read off its loader."""
        parameters = list(inspect.signature(self.load).parameters.values())
        return {parameter.name: parameter.default for parameter in parameters[1:]}


def views_problem(name: str, views: ViewFamily, side: int | None) -> Problem | None:
    """Say why views cannot show the images of a data set held in memory, if so.

    Args:
        name: Of the data set.
        views: The family asked for.
        side: Of the images; None where it is not known yet.
    """
    if views.source is None:
        rule, hint = f"images of {name} are held in memory, and these views show image files only", "crop_flip"
    elif side is not None and not views.resizes and views.source != side:
        rule, hint = f"images of {name} are {side} x {side}, which these views do not resize", "that size, or crop_flip"
    else:
        return None
    return Problem(rule=rule, value=views.size, has_value=True, hint=f"take {hint} with resize")
