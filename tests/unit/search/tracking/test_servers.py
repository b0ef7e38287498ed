"""Ports that ``icd ui`` serves on."""

import socket
from pathlib import Path

import pytest

from icd.cli.main import main
from icd.search.tracking.servers import free_port
from tests.studies import Study


def test_a_port_that_nobody_uses_is_given() -> None:
    port = free_port()
    assert free_port(port) == port


@pytest.mark.parametrize("option", ["--port", "--dashboard-port"])
def test_a_port_that_somebody_uses_is_refused_before_anything_starts(
    tmp_path: Path, option: str, capsys: pytest.CaptureFixture[str]
) -> None:
    Study(tmp_path)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        assert main(["ui", "by-hand", "--root", str(tmp_path), "--no-browser", option, port]) == 3
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert f"port {port} cannot be served on: Address already in use" in said
    assert not list(tmp_path.glob("ui-*.log"))


def test_an_address_that_cannot_work_and_a_root_that_cannot_be_written_are_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    Study(tmp_path)
    words = ["ui", "by-hand", "--root", str(tmp_path), "--no-browser"]
    (tmp_path / "ui-mlflow.log").mkdir()  # stands for a root that is read only, which root can write
    assert main(words) == 3
    assert f"{tmp_path}/ui-mlflow.log cannot be written: Is a directory; choose --root" in capsys.readouterr().err
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "localhost:5000")
    assert main(words) == 3
    assert "try http://localhost:5000" in capsys.readouterr().err


def test_two_servers_need_two_ports(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Study(tmp_path)
    assert main(["ui", "by-hand", "--root", str(tmp_path), "--port", "5000", "--dashboard-port", "5000"]) == 2
    assert "--port and --dashboard-port must differ" in capsys.readouterr().err
