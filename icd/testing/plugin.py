"""Runs the checks on everything that a plugin registers."""

from collections.abc import Callable, Iterator
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any, NamedTuple

from icd.data import DATASETS, Request
from icd.data.views import VIEW_FAMILIES
from icd.losses import BASE_LOSSES
from icd.methods import METHODS
from icd.models import MODELS
from icd.plugin_places import place_of_class
from icd.plugins import Plugin, activate, rows_of
from icd.register import Added
from icd.testing.contract import failures
from icd.testing.data import DATASET_CHECKS, VIEWS_CHECKS, DatasetCase
from icd.testing.losses import LOSS_CHECKS
from icd.testing.methods import METHOD_CHECKS
from icd.testing.models import MODEL_CHECKS, ModelCase

_SIZES = (32, 64, 224)  # of images; a network must take one of them, or the size that it is given


class Checked(NamedTuple):
    """One thing that a plugin registers: what it is, its name, and a line for each check that fails.

    ``source`` and ``line`` are where a class stands; ``skipped`` says why it could not be checked; empty where it was.
    """

    what: str
    name: str
    failed: list[str]
    skipped: str = ""
    source: str = ""
    line: int | None = None


def check_plugin(
    plugin: Plugin, *, data_root: Path | None = None, data_path: str | None = None, image_size: int | None = None
) -> list[Checked]:
    """Import a plugin and check everything that it registers.

    Args:
        plugin: As ``icd.plugins.resolve`` reads it.
        data_root: Folder of data sets.
        data_path: ``path`` of its data sets, where they need one.
        image_size: Of the images that its networks take; one of 32, 64 and 224 that they take unless given.

    Raises:
        ConfigError: If it cannot be imported, or registers something that cannot be read.
    """
    activate([plugin])
    return [_placed(added, _checked(added, data_root, data_path, image_size)) for added in rows_of(plugin)]


def _placed(added: Added, checked: Checked) -> Checked:
    """Say where it stands, if it is a class."""
    source, line = place_of_class(added.table, added.row) if isinstance(added.row, type) else ("", None)
    return checked._replace(source=source, line=line)


def _checked(added: Added, data_root: Path | None, data_path: str | None, image_size: int | None) -> Checked:
    table, name = added.table, added.name
    what = table.what
    if table is BASE_LOSSES:
        return Checked(what, name, failures(LOSS_CHECKS, added.row()))
    if table is METHODS:
        return Checked(what, name, failures(METHOD_CHECKS, added.row()))
    if table is VIEW_FAMILIES:
        return Checked(what, name, failures(VIEWS_CHECKS, _views(added.row)))
    if table is MODELS:
        return Checked(what, name, list(_of_model(name, image_size)))
    row = DATASETS[name]
    if row.needs_path and data_path is None:
        return Checked(what, name, [], skipped="needs --data-path to be loaded")
    load: Callable[[], Any] = lambda: row.load(  # noqa: E731
        Request(root=data_root, path=data_path, val_fraction=0.2, split_seed=0)
    )
    return Checked(what, name, failures(DATASET_CHECKS, DatasetCase(name, load)))


def _views(cls: Any) -> Any:
    """Make an augmentation of 32 pixels, unless it has a size of its own."""
    has_default = any(field.name == "size" and field.default is not MISSING for field in fields(cls))
    return cls() if has_default else cls(size=32)


def _of_model(name: str, image_size: int | None) -> Iterator[str]:
    for stem in MODELS[name].stems:
        row = MODELS[name]
        asked = (image_size,) if image_size else _SIZES
        taken = [size for size in asked if row.features(stem, size)[1]]
        if not taken:
            yield f"takes no image of {image_size or '32, 64 or 224'} pixels; give --image-size"
            continue
        yield from failures(MODEL_CHECKS, ModelCase(name, stem, tuple(taken[:1]), MODELS.owner(name)))
