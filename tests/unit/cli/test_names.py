"""A name that is not UTF-8 is an error of the environment, said before anything is written: never a bug to report."""

import os
from pathlib import Path

import pytest

from icd.cli import main
from tests.command import Command, one_line

ODD = os.fsdecode(b"ro\xffot")


@pytest.mark.parametrize("where", ["--root", "--data-root", "ICD_ROOT", "ICD_DATA", "file"])
def test_a_name_that_is_not_utf8_is_refused_before_anything_is_written(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    monkeypatch.chdir(tmp_path)
    words = ["sweep", str(tmp_path / (ODD if where == "file" else "x.yaml"))]
    if where.startswith("--"):
        words += [where, ODD]
    elif where != "file":
        monkeypatch.setenv(where, ODD)
    assert r"must be UTF-8, but got" in (line := one_line(command(*words), 3, "SETUP"))
    assert r"ro\udcffot" in line
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("text", "code"), [(ODD, 3), ("\ud800", 70)])
def test_a_name_that_is_found_on_the_way_is_no_bug(
    command: Command, monkeypatch: pytest.MonkeyPatch, text: str, code: int
) -> None:
    monkeypatch.setattr(main.icd, "main", lambda *_, **__: text.encode())
    one_line(command("status"), code, "SETUP" if code == 3 else "BUG")
