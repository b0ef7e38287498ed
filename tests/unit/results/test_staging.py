"""Folders that are whole or absent."""

import errno
from pathlib import Path

import pytest

from icd.errors import SetupError, StateError
from icd.results.exports.staging import check_free, staged

NAMES = ("a", "b")


def held(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in folder.iterdir()}


def test_made_whole(tmp_path: Path) -> None:
    with staged([tmp_path / "deep" / "out"], NAMES) as (aside,):
        (aside / "a").write_text("1")
        assert not (tmp_path / "deep" / "out").exists()
    assert held(tmp_path / "deep" / "out") == {"a": "1"}
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["out"]


@pytest.mark.parametrize("there", [False, True])
def test_nothing_is_left_of_a_failure(tmp_path: Path, there: bool) -> None:
    target = tmp_path / "out"
    if there:
        target.mkdir()
        (target / "a").write_text("old")
    with pytest.raises(UnicodeEncodeError), staged([target], NAMES) as (aside,):
        (aside / "a").write_text("new \udcff", encoding="utf-8")
    assert [path.name for path in tmp_path.iterdir()] == (["out"] if there else [])
    assert not there or held(target) == {"a": "old"}


@pytest.mark.parametrize("there", [False, True])
def test_a_move_that_fails_leaves_every_folder_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, there: bool
) -> None:
    targets = [tmp_path / "first", tmp_path / "second"]
    for target in targets if there else ():
        target.mkdir()
        (target / "a").write_text("old")
        (target / "mine").write_text("mine")
    way = "replace" if there else "rename"
    move = getattr(Path, way)

    def failing(path: Path, to: Path) -> Path:
        if ".second." in str(path) and str(path).endswith(("tmp", "tmp/b")):
            raise OSError(errno.EIO, "the disk is gone")
        moved: Path = move(path, to)
        return moved

    wrong = pytest.raises(SetupError, match="second cannot be written: the disk is gone")
    with wrong, staged(targets, NAMES) as asides:
        for path in (aside / name for aside in asides for name in NAMES):
            path.write_text("new")
        monkeypatch.setattr(Path, way, failing)
    assert [path.name for path in sorted(tmp_path.iterdir())] == (["first", "second"] if there else [])
    for target in targets if there else ():
        assert held(target) == {"a": "old", "mine": "mine"}


def test_old_files_go_and_foreign_ones_stay(tmp_path: Path) -> None:
    for name in ("a", "b", "mine"):
        (tmp_path / name).write_text("old")
    with staged([tmp_path], NAMES) as (aside,):
        (aside / "a").write_text("new")
    assert held(tmp_path) == {"a": "new", "mine": "old"}


def test_what_is_in_the_way(tmp_path: Path) -> None:
    check_free(tmp_path, force=False)  # an empty folder
    check_free(tmp_path / "none", force=False)
    (tmp_path / "a").write_text("mine")
    for path in (tmp_path, tmp_path / "a"):
        with pytest.raises(StateError, match="--force"):
            check_free(path, force=False)
        check_free(path, force=True)
    with pytest.raises(StateError, match="must be a folder"), staged([tmp_path / "a"], NAMES):
        pass
    with pytest.raises(SetupError, match="cannot be written"), staged([tmp_path / "a" / "b"], NAMES):
        pass
