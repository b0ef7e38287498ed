"""What answers at an address that should be a Ray cluster's: Ray itself would try for a quarter of an hour."""

import contextlib
import os
import queue
import socket
import threading
import time

from icd.errors import SetupError

_CONNECT_S = 5.0
_FIRST_WORD_S = 5.0
_WITHIN_S = 20.0  # for all of it
# How a client of gRPC begins (RFC 9113, 3.4): the preface and a frame of settings, which are those of HTTP/2.
_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0])
_SETTINGS = 4  # the type of the frame with which a server begins
ADVICE = (
    "check the address (HOST:PORT of the head's GCS, 6379 where 'ray start' chose it), that this machine runs a node "
    "of that cluster, and its token (RAY_AUTH_MODE=token and RAY_AUTH_TOKEN_PATH=FILE, the same as on the cluster)"
)


def refuse_other_forms(address: str) -> None:
    """Refuse an address that can be none of a cluster to drive a sweep on, before anything is asked.

    Raises:
        SetupError: For a URL: Ray Client and the dashboard have such.
    """
    scheme, separator, _ = address.partition("://")
    if not separator:
        return
    if scheme == "ray":
        raise SetupError(
            f"{address} is an address of Ray Client, which cannot drive a sweep: use --address HOST:PORT of the "
            "cluster's GCS on a machine that runs one of its nodes, --address auto there, or --submit http://HOST:8265"
        )
    raise SetupError(
        f"--address must be local, auto or HOST:PORT, but got {address}; a dashboard takes --submit {address}"
    )


def check_address(address: str) -> None:
    """Find out within 20 s whether a Ray cluster answers at HOST:PORT.

    Raises:
        SetupError: If not; says what does.
    """
    deadline = time.monotonic() + _WITHIN_S
    host, _, port = address.rpartition(":")
    try:
        with socket.create_connection((host.strip("[]"), int(port)), timeout=_CONNECT_S) as connection:
            answer = _first_words(connection)
    except (OSError, ValueError) as error:
        raise SetupError(f"no Ray cluster answers at {address} ({error}); {ADVICE}") from error
    if os.environ.get("RAY_USE_TLS", "0") == "1":
        return  # it does not talk to us in the clear
    if answer.startswith(b"HTTP/"):
        raise SetupError(
            f"a web server answers at {address}, no Ray cluster's GCS; if it is Ray's dashboard, give the sweep to it "
            f"with --submit http://{address}; {ADVICE}"
        )
    if len(answer) < 9 or answer[3] != _SETTINGS:
        said = f"answers with {answer[:40]!r}" if answer else "is silent"
        raise SetupError(f"what listens at {address} {said}: that is no Ray cluster; {ADVICE}")
    if problem := _not_gcs(address, deadline - time.monotonic()):
        raise SetupError(f"what answers at {address} is no Ray cluster's GCS ({problem}); {ADVICE}")


def _first_words(connection: socket.socket) -> bytes:
    """Greet like gRPC, and give what comes back; empty where nothing does."""
    connection.settimeout(_FIRST_WORD_S)
    with contextlib.suppress(OSError):
        connection.sendall(_PREFACE)
        return connection.recv(1024)
    return b""


def _not_gcs(address: str, timeout_s: float) -> str:
    """Say why this is no GCS, as other parts of Ray speak gRPC too; empty where it is, or wants another token."""
    from icd.search.executors.ray.internals import forget_token, nodes_of  # Ray takes seconds to import

    answers: queue.Queue[str] = queue.Queue()
    forget_token()
    # Ray's own time limit does not hold where another service answers.
    threading.Thread(target=lambda: answers.put(nodes_of(address, timeout_s)), daemon=True).start()
    try:
        return answers.get(timeout=timeout_s)
    except queue.Empty:
        return f"it does not list its nodes within {timeout_s:.0f} s"
