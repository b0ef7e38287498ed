"""Verbs that only read, on a root of somebody else: they work, and leave no trace."""

import json
import os
import shutil
import sqlite3
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from icd.search.session import session
from icd.search.settings import Settings
from icd.search.study.locks import driver_lock
from tests.integration.ray_nodes import ROOT
from tests.studies import Study, changed, usual

_CALL = """
import contextlib, io, json, sys
from icd.cli.main import main
found = []
for words in json.loads(sys.argv[1]):
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main(words)
    found.append([code, out.getvalue(), err.getvalue()])
print(json.dumps(found))
"""


def as_reader(root: Path, *calls: list[str]) -> list[tuple[int, str, str]]:
    """Run verbs as somebody who may write nothing below the root; root of the machine gives up its rights first."""
    drop = []
    if os.geteuid() == 0:
        if shutil.which("setpriv") is None:
            pytest.skip("no setpriv: apt-get install util-linux")
        drop = ["setpriv", "--bounding-set", "-all", "--inh-caps", "-all"]
    paths = [root, *root.rglob("*")]
    for path in paths:
        path.chmod(0o555 if path.is_dir() else 0o444)
    before = {path: path.stat().st_mtime_ns for path in paths}
    try:
        done = subprocess.run(
            [*drop, sys.executable, "-c", _CALL, json.dumps([[*words, "--root", str(root)] for words in calls])],
            cwd=ROOT,
            env={name: value for name, value in os.environ.items() if not name.startswith(("ICD_", "MLFLOW_"))},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert {path: path.stat().st_mtime_ns for path in [root, *root.rglob("*")]} == before
    finally:
        for path in paths:
            path.chmod(0o755 if path.is_dir() else 0o644)
    return [tuple(item) for item in json.loads(done.stdout.splitlines()[-1])]


def test_reading_verbs_read_a_root_that_cannot_be_written(tmp_path: Path) -> None:
    root, out = tmp_path / "root", tmp_path / "out"
    study = usual(root)
    study.ledger.note_study(stopped_by="budget")  # MLflow was told of it
    study.ledger._database.engine.dispose()  # type: ignore[attr-defined]
    assert not (root / "study.db-wal").exists()
    Study(root, changed(name="other")).ledger._database.engine.dispose()  # type: ignore[attr-defined]
    out.mkdir()
    found = as_reader(
        root,
        ["status"],
        ["status", "by-hand"],
        ["trials", "by-hand", "--csv"],
        ["report", "by-hand", "-o", str(out / "r.html")],
        ["compare", "by-hand", "other"],
        ["export", "by-hand", "--unconfirmed", "-o", str(out / "best.yaml")],
        ["report", "by-hand"],
    )
    assert [code for code, *_ in found] == [0, 0, 0, 0, 0, 0, 3], found
    assert "2 complete" in found[1][1]
    assert sorted(path.name for path in out.iterdir()) == ["best.safetensors", "best.yaml", "r.html"]


def test_what_a_driver_that_was_killed_left_in_the_log_is_read(tmp_path: Path) -> None:
    study = usual(tmp_path / "root")
    with sqlite3.connect(tmp_path / "root" / "study.db") as beside:  # keeps the log from being taken in
        study.trial("complete", [1, 2, 3, 99])
        beside.execute("select 1 from trials").fetchone()
        assert (tmp_path / "root" / "study.db-wal").stat().st_size
        ((code, out, err),) = as_reader(tmp_path / "root", ["status", "by-hand"])
    assert code == 0, err
    assert "3 complete" in out
    assert "99" in out


def test_files_have_the_permissions_of_the_umask(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("ICD_STORAGE_URL", "MLFLOW_TRACKING_URI"):
        monkeypatch.delenv(name, raising=False)
    study = Study(tmp_path / "root")
    shutil.rmtree(study.folder)
    before = os.umask(0o027)
    try:
        with session(study.sweep, Settings(root=tmp_path / "root")):
            pass
    finally:
        os.umask(before)
    assert stat.S_IMODE(study.folder.stat().st_mode) == 0o750
    assert stat.S_IMODE((study.folder / "driver.lock").stat().st_mode) == 0o640
    with driver_lock(study.folder):
        pass
