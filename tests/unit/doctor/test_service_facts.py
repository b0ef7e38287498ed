"""The driver's database as the doctor tries it: nothing is made that was not there, and nothing stays."""

import sqlite3
from pathlib import Path

import pytest

from icd.doctor.service_facts import database_facts, filesystem_of, tracking_facts
from icd.search.study.database import open_storage


def test_a_database_is_tried_and_left_as_it_was(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'study.db'}"
    storage = open_storage(url)
    assert storage.get_all_studies() == []
    facts = database_facts(url)
    assert (facts["where"], facts["error"]) == (url, "")
    assert facts["milliseconds"] is not None
    assert facts["milliseconds"] > 0
    assert storage.get_all_studies() == []
    with sqlite3.connect(tmp_path / "study.db") as connection:
        assert connection.execute("select count(*) from trials").fetchone() == (0,)
    connection.close()


def test_a_database_that_is_not_there_is_not_made(tmp_path: Path) -> None:
    facts = database_facts(f"sqlite:///{tmp_path / 'root' / 'study.db'}")
    assert (facts["error"], facts["milliseconds"]) == ("", None)
    assert tracking_facts(f"sqlite:///{tmp_path / 'root' / 'mlflow.db'}")["error"] == ""
    assert list(tmp_path.iterdir()) == []


def test_a_place_that_cannot_hold_one(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for facts in (
        database_facts(f"sqlite:///{tmp_path / 'file' / 'study.db'}"),
        tracking_facts(f"sqlite:///{tmp_path / 'file' / 'mlflow.db'}"),
    ):
        assert facts["error"] == f"{tmp_path / 'file'} cannot be written"


def test_what_is_no_database(tmp_path: Path) -> None:
    (tmp_path / "study.db").write_bytes(b"not a database, and longer than a page header" * 30)
    assert "file is not a database" in database_facts(f"sqlite:///{tmp_path / 'study.db'}")["error"]


@pytest.mark.parametrize("url", ["postgresql+psycopg2://icd:s3cr3t@127.0.0.1:1/icd", "nonsense://icd:s3cr3t@host/icd"])
def test_a_password_is_not_shown(url: str) -> None:
    facts = database_facts(url)
    assert facts["error"]
    assert "s3cr3t" not in str(facts)


@pytest.mark.parametrize("uri", ["http://me:s3cr3t@127.0.0.1:1", "ftp://me:s3cr3t@host", "file://me:s3cr3t@host/x"])
def test_an_address_of_mlflow_is_shown_without_its_password(uri: str) -> None:
    facts = tracking_facts(uri)
    assert facts["error"]
    assert "s3cr3t" not in str(facts)


def test_file_systems(tmp_path: Path) -> None:
    if not Path("/proc/mounts").exists():
        assert filesystem_of(tmp_path) == ""
        return
    assert filesystem_of(Path("/proc/self/status")) == "proc"
    assert filesystem_of(tmp_path / "not" / "there") == filesystem_of(tmp_path) != ""
