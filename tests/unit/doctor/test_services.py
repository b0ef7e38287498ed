"""The driver's database as the doctor tries it: nothing is made that was not there, and nothing stays."""

import sqlite3
from pathlib import Path

import pytest

from icd.doctor import services
from icd.doctor.services import check_cache, check_database, check_tracking, filesystem_of
from icd.search.study.database import open_storage


def test_a_database_is_tried_and_left_as_it_was(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'study.db'}"
    storage = open_storage(url)
    assert storage.get_all_studies() == []
    found = check_database(url)
    assert (found.check, found.where, found.level, found.text) == ("database", "driver", "pass", url)
    assert storage.get_all_studies() == []
    with sqlite3.connect(tmp_path / "study.db") as connection:
        assert connection.execute("select count(*) from trials").fetchone() == (0,)
    connection.close()


def test_a_database_that_is_not_there_is_not_made(tmp_path: Path) -> None:
    assert check_database(f"sqlite:///{tmp_path / 'root' / 'study.db'}").level == "pass"
    assert check_tracking(f"sqlite:///{tmp_path / 'root' / 'mlflow.db'}").level == "pass"
    assert list(tmp_path.iterdir()) == []


def test_a_place_that_cannot_hold_one(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for found in (
        check_database(f"sqlite:///{tmp_path / 'file' / 'study.db'}"),
        check_tracking(f"sqlite:///{tmp_path / 'file' / 'mlflow.db'}"),
    ):
        assert found.level == "fail"
        assert found.advice
        assert found.text.endswith(f"{tmp_path / 'file'} cannot be written")


@pytest.mark.parametrize(("kind", "level"), [("nfs4", "warn"), ("ext4", "pass")])
def test_teacher_caches_belong_on_a_machine_s_own_disk(
    kind: str, level: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ICD_TEACHER_CACHE", str(tmp_path / "own"))
    monkeypatch.setattr(services, "filesystem_of", lambda path: kind if path == tmp_path / "own" else "")
    found = check_cache(tmp_path / "root", "here")
    assert (found.level, found.where, "ICD_TEACHER_CACHE" in found.advice) == (level, "here", level == "warn")


@pytest.mark.parametrize("kind", ["nfs4", "fuse.sshfs"])
def test_a_file_on_a_shared_disk_is_a_warning(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(services, "filesystem_of", lambda path: kind)
    found = check_database(f"sqlite:///{tmp_path / 'study.db'}")
    assert (found.level, bool(found.advice)) == ("warn", True)
    assert found.text.endswith(f"on {kind}")


def test_what_is_no_database(tmp_path: Path) -> None:
    (tmp_path / "study.db").write_bytes(b"not a database, and longer than a page header" * 30)
    assert "file is not a database" in check_database(f"sqlite:///{tmp_path / 'study.db'}").text


@pytest.mark.parametrize("url", ["postgresql+psycopg2://icd:s3cr3t@127.0.0.1:1/icd", "nonsense://icd:s3cr3t@host/icd"])
def test_a_password_is_not_shown(url: str) -> None:
    found = check_database(url)
    assert found.level == "fail"
    assert "s3cr3t" not in str(found)


@pytest.mark.parametrize("uri", ["http://me:s3cr3t@127.0.0.1:1", "ftp://me:s3cr3t@host", "file://me:s3cr3t@host/x"])
def test_an_address_of_mlflow_is_shown_without_its_password(uri: str) -> None:
    found = check_tracking(uri)
    assert found.level == "fail"
    assert "s3cr3t" not in str(found)


def test_file_systems(tmp_path: Path) -> None:
    if not Path("/proc/mounts").exists():
        assert filesystem_of(tmp_path) == ""
        return
    assert filesystem_of(Path("/proc/self/status")) == "proc"
    assert filesystem_of(tmp_path / "not" / "there") == filesystem_of(tmp_path) != ""
