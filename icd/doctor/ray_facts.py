"""Asks every node of a Ray cluster what it has, all at once, and each no longer than a given time."""

import contextlib
import os
import secrets
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypedDict

import ray
from ray import cloudpickle
from ray.exceptions import GetTimeoutError, RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from icd.doctor import node_facts
from icd.doctor.node_facts import DataFacts, FolderFacts, NodeFacts, NodeProbe
from icd.search.executors.ray.cluster import join, signals_kept
from icd.search.executors.ray.internals import forget_token
from icd.search.executors.ray.security import is_open

_CLOCKS = 5


class AskedNode(TypedDict):
    """What is known of one node; a part it did not answer is None, and ``error`` says why.

    ``skew_s`` is the node's clock less the driver's, ``skew_limit_s`` how far that may be off: half of the shortest
    round trip. ``seen_here`` is whether the driver sees what it wrote.
    """

    address: str
    gpus: float
    object_store_gb: float
    error: str
    facts: NodeFacts | None
    skew_s: float | None
    skew_limit_s: float | None
    folder: FolderFacts | None
    seen_here: bool
    data: DataFacts | None


class ClusterFacts(TypedDict):
    """What is known of a cluster; ``nodes`` by a name that people know, ``driver`` is this machine.

    ``open`` is whether it takes commands from one without a token, ``token_mode`` the rights of the token's file;
    ``root_error`` says why the driver itself cannot write the shared folder, ``data`` what it has of the data sets.
    """

    address: str
    open: bool | None
    token_mode: int | None
    root: str
    root_error: str
    driver: NodeFacts
    data: DataFacts | None
    nodes: dict[str, AskedNode]


def cluster_facts(address: str, root: Path, data_root: Path | None, *, timeout_s: float) -> ClusterFacts:
    """Join a cluster, look at it and leave.

    Args:
        address: ``auto``, or HOST:PORT.
        root: Which all nodes should share; files are made there and removed.
        data_root: Of data sets; None where there is none to look for.
        timeout_s: How long to wait for a node.

    Raises:
        SetupError: If it cannot be joined.
    """
    with _joined(address):
        gcs = ray.get_runtime_context().gcs_address
        alive = [node for node in ray.nodes() if node["Alive"]]
        round_ = _Round({node["NodeID"]: _new(node) for node in alive}, timeout_s)
        round_.look(data_root)
        root_error = round_.share(root)
        names = _names(alive)
        return ClusterFacts(
            address=gcs,
            open=is_open(gcs),
            token_mode=_token_mode(),
            root=str(root),
            root_error=root_error,
            driver=node_facts.node_facts(gpus=False),
            data=node_facts.look_at_data(str(data_root.absolute())) if data_root else None,
            nodes={names[node]: found for node, found in round_.nodes.items()},
        )


@contextlib.contextmanager
def _joined(address: str) -> Iterator[None]:
    """Join by the environment's token; the probe goes to the nodes with its source."""
    usage = os.environ.get("RAY_USAGE_STATS_ENABLED")
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    cloudpickle.register_pickle_by_value(node_facts)
    try:
        with signals_kept():
            join(address)
        yield
    finally:
        cloudpickle.unregister_pickle_by_value(node_facts)
        with signals_kept():
            ray.shutdown()
        forget_token()
        if usage is None:
            del os.environ["RAY_USAGE_STATS_ENABLED"]
        else:
            os.environ["RAY_USAGE_STATS_ENABLED"] = usage


def _token_mode() -> int | None:
    """Give the rights of the file that Ray takes its token from; None where there is none."""
    if os.environ.get("RAY_AUTH_TOKEN"):
        return None
    path = Path(os.environ.get("RAY_AUTH_TOKEN_PATH") or Path.home() / ".ray" / "auth_token")
    return path.stat().st_mode & 0o777 if path.exists() else None


def _new(node: Mapping[str, Any]) -> AskedNode:
    resources = node["Resources"]
    return AskedNode(
        address=str(node["NodeManagerAddress"]),
        gpus=resources.get("GPU", 0.0),
        object_store_gb=resources.get("object_store_memory", 0.0) / 1e9,
        error="",
        facts=None,
        skew_s=None,
        skew_limit_s=None,
        folder=None,
        seen_here=False,
        data=None,
    )


def _names(nodes: list[dict[str, Any]]) -> dict[str, str]:
    """Name nodes by their hosts, with a part of Ray's name where several are on one host."""
    hosts = {node["NodeID"]: str(node.get("NodeManagerHostname") or node["NodeManagerAddress"]) for node in nodes}
    alone = [host for host in hosts.values() if list(hosts.values()).count(host) == 1]
    return {node: host if host in alone else f"{host}/{node[:6]}" for node, host in hosts.items()}


class _Round:
    """One actor on each node; a node that fails to answer is not asked again."""

    def __init__(self, nodes: dict[str, AskedNode], timeout_s: float) -> None:
        self.nodes, self._timeout_s = nodes, timeout_s
        remote: Any = ray.remote(NodeProbe)
        self._probes = {
            node: remote.options(
                num_cpus=0, scheduling_strategy=NodeAffinitySchedulingStrategy(node, soft=False)
            ).remote()
            for node in nodes
        }

    def look(self, data_root: Path | None) -> None:
        """Ask for facts, data sets and clocks."""
        for node, facts in self._ask(lambda node, probe: probe.facts.remote(self.nodes[node]["gpus"] > 0)):
            self.nodes[node]["facts"] = facts
        if data_root is not None:
            folder = str(data_root.absolute())
            for node, data in self._ask(lambda _, probe: probe.data.remote(folder)):
                self.nodes[node]["data"] = data
        for node, probe in self._answering():
            self._clock(node, probe)

    def _clock(self, node: str, probe: Any) -> None:
        """Compare clocks: the node's is taken to be read in the middle of the shortest round trip."""
        for _ in range(_CLOCKS):
            started, at = time.perf_counter(), time.time()
            there = self._get(node, probe.clock.remote())
            if there is None:
                return
            half = (time.perf_counter() - started) / 2
            found = self.nodes[node]
            if found["skew_limit_s"] is None or half < found["skew_limit_s"]:
                found["skew_s"], found["skew_limit_s"] = there - (at + half), half

    def share(self, root: Path) -> str:
        """Let all nodes read what the driver wrote below the root, and write; says why it cannot be tried."""
        word, there = secrets.token_hex(16), root.exists()
        folder = root.absolute() / f".doctor-{word[:8]}"
        try:
            folder.mkdir(parents=True)
            (folder / "driver").write_text(word)
        except OSError as error:
            return error.strerror or str(error)
        try:
            for node, found in self._ask(lambda node, probe: probe.folder.remote(str(folder), word, node)):
                self.nodes[node]["folder"] = found
                self.nodes[node]["seen_here"] = not found["error"] and (folder / node).exists()
        finally:
            shutil.rmtree(folder, ignore_errors=True)
            if not there:
                with contextlib.suppress(OSError):
                    root.rmdir()
        return ""

    def _answering(self) -> list[tuple[str, Any]]:
        return [(node, probe) for node, probe in self._probes.items() if not self.nodes[node]["error"]]

    def _ask(self, question: Callable[[str, Any], Any]) -> list[tuple[str, Any]]:
        """Ask all nodes at once; gives what those say that answer in time."""
        asked = {node: question(node, probe) for node, probe in self._answering()}
        if asked:
            ray.wait(list(asked.values()), num_returns=len(asked), timeout=self._timeout_s)
        answers = ((node, self._get(node, answer, timeout_s=0)) for node, answer in asked.items())
        return [(node, answer) for node, answer in answers if answer is not None]

    def _get(self, node: str, asked: Any, timeout_s: float | None = None) -> Any:
        """Get an answer; None, and the reason noted, where there is none."""
        try:
            return ray.get(asked, timeout=self._timeout_s if timeout_s is None else timeout_s)
        except GetTimeoutError:
            self.nodes[node]["error"] = f"no answer for {self._timeout_s:g} s"
        except RayError as error:
            lines = [line.strip() for line in str(error).splitlines() if line.strip()]
            self.nodes[node]["error"] = (lines or [type(error).__name__])[-1][:200]
        return None
