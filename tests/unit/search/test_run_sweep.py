"""What a new study notes of the program that made it."""

import subprocess
from pathlib import Path

import pytest

from icd.search import run_sweep


@pytest.mark.parametrize(("above", "known"), [("", True), (".venv/lib/site-packages", False)])
def test_the_commit_is_that_of_our_own_repository(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, above: str, known: bool
) -> None:
    package = tmp_path / above / "icd" / "search"
    package.mkdir(parents=True)
    identity = ["-c", "user.name=x", "-c", "user.email=x@y.invalid", "-c", "commit.gpgsign=false"]
    for words in (["init", "-q"], [*identity, "commit", "-q", "--allow-empty", "-m", "x"]):
        subprocess.run(["git", "-C", str(tmp_path), *words], check=True)
    head = subprocess.run(
        ["git", "-C", str(tmp_path), "rev-parse", "HEAD"], check=True, capture_output=True, text=True
    ).stdout
    monkeypatch.setattr(run_sweep, "__file__", str(package / "run_sweep.py"))
    assert run_sweep._git_commit() == (head[:12] if known else "")
