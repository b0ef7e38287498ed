"""Folders that are whole or absent: filled aside, synced, then moved into place, all of them or none."""

import os
import shutil
from collections.abc import Collection, Iterator, Sequence
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

    If anything is raised, by the caller or by a move, every target is as it was. Of a target that exists the files in
    ``names``, all that may be made, are replaced or removed one by one; whatever else it holds stays.

    Raises:
        SetupError: If something cannot be written.
        StateError: If a target is a file.
    """
    for target in targets:
        if target.exists() and not target.is_dir():
            raise StateError(f"{target} must be a folder, or end in .yaml for a configuration and weights alone")
    whole = [target.absolute() for target in targets]
    asides, olds = ([t.with_name(f".{t.name}.{os.getpid()}.{end}") for t in whole] for end in ("tmp", "old"))
    try:
        for folder in (*asides, *olds):
            folder.mkdir(parents=True)
        yield asides
        for aside in asides:
            for path in (*aside.iterdir(), aside):
                sync(path)
        with ExitStack() as undo:
            for target, aside, old in zip(whole, asides, olds, strict=True):
                _move(target, aside, old, names, undo)
            undo.pop_all()
    except OSError as error:
        listed = " and ".join(map(str, targets))
        raise SetupError(f"{listed} cannot be written: {error.strerror or error}") from error
    finally:
        for folder in (*asides, *olds):
            shutil.rmtree(folder, ignore_errors=True)


def _move(target: Path, aside: Path, old: Path, names: Collection[str], undo: ExitStack) -> None:
    """Move a folder into place; ``undo`` is told how each step is taken back, for which ``old`` keeps files."""
    if not target.exists():
        aside.rename(target)
        undo.callback(shutil.rmtree, target)
    else:
        for made, there, kept in ((aside / name, target / name, old / name) for name in sorted(names)):
            if there.exists():
                shutil.copy2(there, kept)
                undo.callback(kept.replace, there)
            else:
                undo.callback(there.unlink, missing_ok=True)
            if made.exists():
                made.replace(there)
            else:
                there.unlink(missing_ok=True)
        sync(target)
    sync(target.parent)
