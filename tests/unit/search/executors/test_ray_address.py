"""What is no Ray cluster is refused by what it answers, before Ray is asked to join it."""

import fcntl
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from icd.cli.sweep import sweep
from icd.errors import SetupError, UsageError
from icd.search.executors.ray import connection
from icd.search.executors.ray.connection import check_address, refuse_other_forms


@pytest.fixture
def address() -> Iterator[str]:
    """The address of something that listens."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield f"127.0.0.1:{listener.getsockname()[1]}"


def test_what_listens_must_list_a_clusters_nodes_in_time(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "_WITHIN_S", 0.3)
    over = threading.Event()
    monkeypatch.setattr(connection, "nodes_of", lambda address, timeout_s: str(over.wait(30)))
    with pytest.raises(SetupError, match=f"no Ray cluster answers at {address} .*does not list .* nodes within 0 s"):
        check_address(address)
    over.set()
    monkeypatch.setattr(connection, "_WITHIN_S", 60.0)
    monkeypatch.setattr(connection, "nodes_of", lambda address, timeout_s: "it speaks otherwise")
    with pytest.raises(SetupError, match=r"it speaks otherwise.*a dashboard takes --submit"):
        check_address(address)
    monkeypatch.setattr(connection, "nodes_of", lambda address, timeout_s: "")
    check_address(address)


@pytest.mark.parametrize("address", ["127.0.0.1:1", "nonsense"])
def test_nothing_there(address: str) -> None:
    with pytest.raises(SetupError, match=f"no Ray cluster answers at {address}"):
        check_address(address)


def test_addresses_of_another_form_are_refused_with_the_right_one() -> None:
    for address, right in {"ray://h:10001": "auto or HOST:PORT", "http://h:8265": "--submit http://h:8265"}.items():
        with pytest.raises(SetupError, match=right):
            refuse_other_forms(address)
        with pytest.raises(UsageError, match=right):
            CliRunner().invoke(sweep, ["x.yaml", "--address", address], catch_exceptions=False)


def test_ray_client_is_not_offered() -> None:
    assert "ray://" not in CliRunner().invoke(sweep, ["--help"]).output


def test_only_folders_whose_driver_is_dead_are_removed(tmp_path: Path) -> None:
    for name in ("dead", "alive", "new"):
        (tmp_path / f"icd-ray-999999999-{name}").mkdir()
    for name in ("dead", "alive"):
        (tmp_path / f"icd-ray-999999999-{name}" / "owner").touch()
    with (tmp_path / "icd-ray-999999999-alive" / "owner").open() as owner:  # in a container that shares /tmp
        fcntl.flock(owner, fcntl.LOCK_EX)
        connection._remove_left(tmp_path)
    assert sorted(path.name.rpartition("-")[2] for path in tmp_path.iterdir()) == ["alive", "new"]
