"""Addresses of databases and roots: what cannot work is refused before anything is written."""

from pathlib import Path

import pytest
import yaml

from icd.cli.main import main
from icd.errors import SetupError, UsageError
from icd.search.study.database_file import is_one_database, sqlite_file
from icd.search.study.sweep_index import pasted
from icd.search.tracking.mlflow_client import check_server, refuse_address
from icd.storage.bucket import local_root
from tests.documents import document_of
from tests.studies import DOCUMENT


@pytest.mark.parametrize(
    ("given", "right"),
    [
        ("localhost:5000", "http://localhost:5000"),
        ("tracking.lab.org:443/mlflow", "http://tracking.lab.org:443/mlflow"),
        ("10.0.0.7:5000", "http://10.0.0.7:5000"),
        ("file:///runs/mlruns", "sqlite:///"),
        ("mlruns", "sqlite:///"),
        ("sqlite://", "sqlite:///"),
    ],
)
def test_an_address_of_mlflow_that_cannot_work_is_refused_with_the_right_form(given: str, right: str) -> None:
    for refuse in (refuse_address, check_server):
        with pytest.raises(SetupError, match="MLFLOW_TRACKING_URI must be") as told:
            refuse(given)
        assert f"try {right}" in str(told.value)


def test_a_scheme_that_mlflow_does_not_know_is_refused() -> None:
    with pytest.raises(SetupError, match="cannot be used"):
        check_server("htp://localhost:5000")


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("sqlite:///x/y.db", "sqlite:///x/../x/y.db?timeout=3", True),
        ("sqlite:///x/y.db", "sqlite:///x/z.db", False),
        ("postgresql+psycopg2://a:b@h/d", "postgresql://c:d@h/d", True),
        ("postgresql://h/d", "postgresql://h/e", False),
        ("postgresql://h/d?options=-csearch_path%3Da", "postgresql://h/d?options=-csearch_path%3Db", False),
        ("postgresql://h/d", "http://h/d", False),
    ],
)
def test_one_database_is_seen_under_two_addresses(one: str, other: str, same: bool) -> None:
    assert is_one_database(one, other) is same


def test_a_file_is_known_by_its_address(tmp_path: Path) -> None:
    assert sqlite_file(f"sqlite:///{tmp_path}/m.db?timeout=3") == tmp_path / "m.db"
    assert sqlite_file("sqlite:///m.db") == Path.cwd() / "m.db"
    assert [sqlite_file(url) for url in ("sqlite://", "http://h/x", "nonsense", "sqlite:///file:x?uri=true")] == 4 * [
        None
    ]


@pytest.mark.parametrize("name", ["what?", "a%41b", "{SCHEMA}", "two\nlines", "b\udcffd"])
def test_a_root_that_no_address_can_hold_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="path must be UTF-8 without"):
        local_root(tmp_path / name)
    assert list(tmp_path.iterdir()) == []


def test_other_names_are_roots(tmp_path: Path) -> None:
    for name in ("ü #1", "a:b@c", "[x] & 'y' \\ ; = + ~ $HOME"):
        assert local_root(tmp_path / name) == tmp_path / name


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"ICD_STORAGE_URL": "sqlite:///{root}/mlflow.db"}, "must be two databases"),
        ({"MLFLOW_TRACKING_URI": "sqlite:///{root}/study.db"}, "must be two databases"),
        ({"MLFLOW_TRACKING_URI": "localhost:5000"}, "try http://localhost:5000"),
    ],
)
def test_a_sweep_is_refused_before_anything_is_written(
    changes: dict[str, str],
    reason: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    root, file = tmp_path / "root", tmp_path / "sweep.yaml"
    file.write_text(yaml.safe_dump(document_of(DOCUMENT)))
    for name in ("ICD_STORAGE_URL", "MLFLOW_TRACKING_URI"):
        monkeypatch.delenv(name, raising=False)
    for name, value in changes.items():
        monkeypatch.setenv(name, value.format(root=root))
    assert main(["sweep", str(file), "--root", str(root)]) == 3
    assert reason in capsys.readouterr().err
    assert not root.exists()


def test_a_command_names_the_root_where_it_is_not_the_default(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ICD_ROOT", str(tmp_path / "default"))
    assert pasted(tmp_path / "default", "trials", "x") == "icd trials x"
    assert pasted(tmp_path / "my root", "trials", "x") == f"icd trials x --root '{tmp_path}/my root'"
    monkeypatch.setenv("ICD_CACHE", str(tmp_path / "cache"))
    assert pasted(local_root("s3://bucket/runs"), "ui", "x") == "icd ui x --root s3://bucket/runs"
