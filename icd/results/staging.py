"""Folders that are whole or absent: filled aside, synced, then moved into place."""

import os
import shutil
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

from icd.errors import SetupError, StateError


def check_free(path: Path, *, force: bool) -> None:
    """Refuse to write over something.

    Raises:
        StateError: If a file, or a folder that is not empty, is there and ``force`` is off.
    """
    taken = any(path.iterdir()) if path.is_dir() else path.exists() or path.is_symlink()
    if taken and not force:
        raise StateError(f"{path} exists; choose another name, or add --force to replace it")


@contextmanager
def staged(target: Path, names: Collection[str]) -> Iterator[Path]:
    """Give an empty folder; what is in it at the end becomes ``target``, and nothing does if anything is raised.

    Files of a ``target`` that exists are replaced one by one; those of ``names`` that are not there again are removed,
    and whatever else it holds stays.

    Args:
        target: Folder to make.
        names: All files that may be made.

    Raises:
        SetupError: If something cannot be written.
        StateError: If ``target`` is a file.
    """
    if target.exists() and not target.is_dir():
        raise StateError(f"{target} must be a folder, or end in .yaml for a configuration and weights alone")
    aside = target.absolute().with_name(f".{target.absolute().name}.{os.getpid()}.tmp")
    try:
        aside.mkdir(parents=True)
        yield aside
        for path in aside.iterdir():
            _sync(path)
        _sync(aside)
        _move(aside, target.absolute(), names)
    except OSError as error:
        raise SetupError(f"{target} cannot be written: {error.strerror or error}") from error
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _move(aside: Path, target: Path, names: Collection[str]) -> None:
    if not target.exists():
        aside.rename(target)
    else:
        made = {path.name for path in aside.iterdir()}
        for name in sorted(made):
            (aside / name).replace(target / name)
        for name in set(names) - made:
            (target / name).unlink(missing_ok=True)
        _sync(target)
    _sync(target.parent)


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
