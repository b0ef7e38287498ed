"""What is no Ray cluster is refused by what it answers, before Ray is asked to join it."""

import socket
import threading
from collections.abc import Callable, Iterator

import pytest
from click.testing import CliRunner

from icd.cli.sweep import sweep
from icd.errors import SetupError, UsageError
from icd.search.executors.ray import address as ray_address
from icd.search.executors.ray import internals
from icd.search.executors.ray.address import check_address, refuse_other_forms

SETTINGS = bytes([0, 0, 0, 4, 0, 0, 0, 0, 0])


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[bytes], str]]:
    """Start what answers one connection with these bytes; gives its address."""
    monkeypatch.setattr(ray_address, "_FIRST_WORD_S", 0.3)
    listener = socket.create_server(("127.0.0.1", 0))
    over = threading.Event()

    def start(answer: bytes) -> str:
        def serve() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(100)
                connection.sendall(answer)
                over.wait(30)

        threading.Thread(target=serve, daemon=True).start()
        return f"127.0.0.1:{listener.getsockname()[1]}"

    yield start
    over.set()
    listener.close()


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "a web server answers at {0}, .*--submit http://{0}"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", "what listens at {0} answers with b'SSH-2.0-OpenSSH_9.2"),
        (b"", "what listens at {0} is silent: that is no Ray cluster"),
    ],
    ids=["http", "ssh", "silent"],
)
def test_what_answers_is_named(server: Callable[[bytes], str], answer: bytes, said: str) -> None:
    address = server(answer)
    with pytest.raises(SetupError, match=said.format(address)):
        check_address(address)


def test_a_service_that_speaks_as_ray_does_must_list_its_nodes_in_time(
    server: Callable[[bytes], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ray_address, "_WITHIN_S", 0.3)
    over = threading.Event()
    monkeypatch.setattr(internals, "nodes_of", lambda address, timeout_s: str(over.wait(30)))
    with pytest.raises(SetupError, match=r"is no Ray cluster's GCS .it does not list its nodes within 0 s"):
        check_address(server(SETTINGS))
    over.set()
    monkeypatch.setattr(ray_address, "_WITHIN_S", 60.0)
    monkeypatch.setattr(internals, "nodes_of", lambda address, timeout_s: "")
    check_address(server(SETTINGS))


@pytest.mark.parametrize("address", ["127.0.0.1:1", "nonsense"])
def test_nothing_there(address: str) -> None:
    with pytest.raises(SetupError, match=f"no Ray cluster answers at {address}"):
        check_address(address)


def test_addresses_of_another_form_are_refused_with_the_right_one() -> None:
    for address, right in {"ray://h:10001": "--address HOST:PORT", "http://h:8265": "--submit http://h:8265"}.items():
        with pytest.raises(SetupError, match=right):
            refuse_other_forms(address)
        with pytest.raises(UsageError, match=right):
            CliRunner().invoke(sweep, ["x.yaml", "--address", address], catch_exceptions=False)


def test_ray_client_is_not_offered() -> None:
    assert "ray://" not in CliRunner().invoke(sweep, ["--help"]).output
