"""Folders that are whole or absent: filled aside, synced, then moved into place, all of them or none."""

import os
import shutil
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from icd.errors import SetupError, StateError
from icd.storage.durable import sync


def check_free(path: Path, *, force: bool) -> None:
    """Refuse to write over something.

    Raises:
        StateError: If a file, or a folder that is not empty, is there and ``force`` is off.
    """
    taken = any(path.iterdir()) if path.is_dir() else path.exists() or path.is_symlink()
    if taken and not force:
        raise StateError(f"{path} exists; choose another name, or add --force to replace it")


@contextmanager
def staged(targets: Sequence[Path], names: Collection[str]) -> Iterator[list[Path]]:
    """Give an empty folder for each target; what is in them at the end becomes the targets.

    If anything is raised, by the caller or by a move, every target is as it was. Files of a target that exists are
    replaced one by one; those of ``names`` that are not there again are removed, and whatever else it holds stays.

    Args:
        targets: Folders to make.
        names: All files that may be made in each.

    Raises:
        SetupError: If something cannot be written.
        StateError: If a target is a file.
    """
    for target in targets:
        if target.exists() and not target.is_dir():
            raise StateError(f"{target} must be a folder, or end in .yaml for a configuration and weights alone")
    asides = {target.absolute(): _beside(target.absolute(), "tmp") for target in targets}
    try:
        for aside in asides.values():
            aside.mkdir(parents=True)
        yield list(asides.values())
        for aside in asides.values():
            for path in aside.iterdir():
                sync(path)
            sync(aside)
        with ExitStack() as undone:
            for target, aside in asides.items():
                _move(aside, target, names, undone.callback)
            undone.pop_all()
    except OSError as error:
        listed = " and ".join(map(str, targets))
        raise SetupError(f"{listed} cannot be written: {error.strerror or error}") from error
    finally:
        for target, aside in asides.items():
            shutil.rmtree(aside, ignore_errors=True)
            shutil.rmtree(_beside(target, "old"), ignore_errors=True)


def _beside(target: Path, ending: str) -> Path:
    return target.with_name(f".{target.name}.{os.getpid()}.{ending}")


def _move(aside: Path, target: Path, names: Collection[str], undo: Callable[..., object]) -> None:
    """Move a folder into place; ``undo`` is told how each step is taken back."""
    if not target.exists():
        aside.rename(target)
        undo(shutil.rmtree, target)
    else:
        kept = _beside(target, "old")
        kept.mkdir()
        made = {path.name for path in aside.iterdir()}
        for name in sorted({*names, *made}):
            if (target / name).exists():
                shutil.copy2(target / name, kept / name)
        undo(_restore, kept, target, made)
        for name in sorted(made):
            (aside / name).replace(target / name)
        for name in set(names) - made:
            (target / name).unlink(missing_ok=True)
        sync(target)
    sync(target.parent)


def _restore(kept: Path, target: Path, made: Collection[str]) -> None:
    old = {path.name for path in kept.iterdir()}
    for name in set(made) - old:
        (target / name).unlink(missing_ok=True)
    for name in old:
        (kept / name).replace(target / name)
