"""Who may reach a Ray: a cluster of our own is bound to loopback and has a token; one open to others is not joined."""

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import ray
import ray._private.ray_constants as constants

from icd.errors import SetupError
from icd.search.sockets import Listener, family, listeners

_ANSWER_S = 30.0
# Run with authentication switched off. Success means that anybody may run code on the cluster.
_STRANGER = """
import sys
import ray
from ray._raylet import GcsClient

try:
    GcsClient(address=sys.argv[1]).get_all_node_info(timeout=10)
except ray.exceptions.AuthenticationError:
    sys.exit(3)
"""
_OPEN, _SHUT = 0, 3


@contextlib.contextmanager
def bound_to_loopback() -> Iterator[None]:
    """Let a Ray that is started in this block listen on loopback only.

    Ray picks the address of a network card even where 127.0.0.1 is asked for, and then binds every port to all
    interfaces. It stays on loopback where clusters are switched off, its default on macOS and Windows.
    """
    before = constants.ENABLE_RAY_CLUSTER
    constants.ENABLE_RAY_CLUSTER = False
    try:
        yield
    finally:
        constants.ENABLE_RAY_CLUSTER = before


def exposed(before: set[Listener]) -> list[Listener]:
    """Give the sockets of this process and its children that others can reach and that are newer than ``before``."""
    return sorted(listener for listener in listeners(family(os.getpid())) - before if not listener.loopback)


def write_token(folder: Path) -> Path:
    """Write a fresh token that this user alone can read."""
    path = folder / "token"
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(os.urandom(32).hex())
    return path


def keep_credentials() -> None:
    """Let Tune pass no credentials on: it writes the driver's AWS keys into the command line of every worker."""
    from ray.tune.execution import class_cache

    names: set[str] = getattr(class_cache, "ENV_VARS_TO_PROPAGATE", set())
    names -= {name for name in names if name.startswith("AWS_")}


def forget_token() -> None:
    """Make Ray read its token settings again; it reads them once for each process."""
    raylet: Any = ray._raylet
    with contextlib.suppress(AttributeError):
        raylet.Config.initialize("")
        raylet.AuthenticationTokenLoader.instance().reset_cache()


def is_open(address: str) -> bool | None:
    """Whether a cluster takes commands from one who has no token; None where that cannot be found out.

    Args:
        address: HOST:PORT of its GCS, which answers.
    """
    with contextlib.suppress(subprocess.TimeoutExpired):
        done = subprocess.run(
            [sys.executable, "-c", _STRANGER, address],
            env={**os.environ, "RAY_AUTH_MODE": "disabled"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            timeout=_ANSWER_S,
            check=False,
        )
        if done.returncode in (_OPEN, _SHUT):
            return done.returncode == _OPEN
    return None


def refuse_open(address: str) -> None:
    """Refuse the cluster that was joined if others can reach it and need no token.

    Raises:
        SetupError: Then.
    """
    places = {str(node["NodeManagerAddress"]) for node in ray.nodes() if node["Alive"]}
    outside = sorted(place for place in places if not Listener(0, place, 0).loopback)
    if outside and is_open(address):
        raise SetupError(
            f"the Ray cluster at {address} runs the code of everybody who reaches {outside[0]}: it has no token; "
            "start its nodes with RAY_AUTH_MODE=token and RAY_AUTH_TOKEN_PATH=FILE (docs/security.md)"
        )
