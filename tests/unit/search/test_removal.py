"""``icd rm`` on a file system that keeps the folder of an open file, or refuses."""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import optuna
import pytest

from icd.errors import SetupError, StateError
from icd.search import removal
from icd.search.study.ledger import Ledger
from icd.search.study.locks import sweep_lock
from tests.driving import Hand


@pytest.fixture
def hand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Hand:
    monkeypatch.delenv("ICD_STORAGE_URL", raising=False)
    hand = Hand(tmp_path)
    (hand.folder / "trials" / "0000").mkdir(parents=True)
    (hand.folder / "report.html").touch()
    hand.close()
    return hand


def test_a_folder_goes_once_its_lock_is_given_back(hand: Hand, monkeypatch: pytest.MonkeyPatch) -> None:
    @contextmanager
    def as_on_nfs(folder: Path, *arguments: Any) -> Iterator[None]:
        with sweep_lock(folder, *arguments):
            yield
            held = folder / ".nfs0001"  # what becomes of an open file that is removed
            held.touch()
        held.unlink()

    monkeypatch.setattr(removal, "sweep_lock", as_on_nfs)
    removal.remove(hand.root, "tiny", mlflow=False)
    assert not hand.folder.exists()
    assert list((hand.root / ".study.db.locks").iterdir()) == []


def test_nobody_begins_the_sweep_while_its_study_is_removed(hand: Hand, monkeypatch: pytest.MonkeyPatch) -> None:
    locked = list[bool]()
    take = Ledger.remove

    def removed(storage: Any, name: str) -> None:
        locked.append((hand.root / ".study.db.locks" / name / "driver.lock").exists())
        take(storage, name)

    monkeypatch.setattr(Ledger, "remove", removed)
    removal.remove(hand.root, "tiny", mlflow=False)
    assert locked == [True], "a new file would be another lock"


def test_what_cannot_be_removed_is_said(hand: Hand, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(path: Path) -> None:
        raise OSError(errno.EACCES, os.strerror(errno.EACCES), str(path))

    monkeypatch.setattr("shutil.rmtree", refused)
    with pytest.raises(SetupError, match="trials cannot be removed: Permission denied; try again"):
        removal.remove(hand.root, "tiny", mlflow=False)
    monkeypatch.undo()
    monkeypatch.delenv("ICD_STORAGE_URL", raising=False)
    removal.remove(hand.root, "tiny", mlflow=False)
    assert not hand.folder.exists()


def test_another_programs_study_keeps_its_experiment(hand: Hand, monkeypatch: pytest.MonkeyPatch) -> None:
    optuna.create_study(storage=f"sqlite:///{hand.root / 'study.db'}", study_name="theirs").optimize(lambda _: 0.0, 1)
    monkeypatch.delattr(removal, "_drop_experiment")
    for act in (removal.parts_of, removal.remove):
        with pytest.raises(StateError, match="is no sweep of icd, and is left as it is"):
            act(hand.root, "theirs", mlflow=True)
