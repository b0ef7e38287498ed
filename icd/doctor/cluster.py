"""What a cluster lacks: facts of its nodes and of the services that a driver uses, judged."""

import contextlib
import os
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import ray
from ray import cloudpickle

from icd.doctor import node_facts
from icd.doctor.diagnosis import Finding, floors, judge_clock, judge_node
from icd.doctor.services import check_cache, check_services
from icd.search.executors.ray.connection import connected
from icd.search.executors.ray.nodes import ask_nodes, storage_problems
from icd.search.executors.ray.security import is_open
from icd.storage.bucket import bucket_of

_CLOCKS = 5


def check_cluster(address: str, root: Path, data_root: Path | None, *, timeout_s: float) -> tuple[str, list[Finding]]:
    """Join a cluster, look at every node, the database and MLflow, and leave.

    Args:
        address: ``auto``, or HOST:PORT.
        root: Which all nodes should share; files are made there and removed.
        data_root: Of data sets; None where there is none to look for.
        timeout_s: How long to wait for a node.

    Returns:
        The cluster's own address, and what was found.

    Raises:
        SetupError: If it cannot be joined.
    """
    data = str(data_root.absolute()) if data_root else ""
    services, driver = check_services(root), node_facts.node_facts(False, data)
    with connected(address), contextlib.ExitStack() as sending:
        cloudpickle.register_pickle_by_value(node_facts)  # it goes to the nodes with its source
        sending.callback(cloudpickle.unregister_pickle_by_value, node_facts)
        gcs = ray.get_runtime_context().gcs_address
        findings = [*_token(gcs), *floors("driver", driver), *services]
        nodes = {node["NodeID"]: node for node in ray.nodes() if node["Alive"]}
        names = _names(nodes)
        asked = {node: ("GPU" in found["Resources"], data) for node, found in nodes.items()}
        answers, silent = ask_nodes(node_facts.node_facts, asked, timeout_s)
        advice = "look at this node's Ray logs; it needs the same Python, icd and Ray as the driver"
        findings += [Finding("answers", names[node], "fail", problem, advice) for node, problem in silent.items()]
        for node, facts in answers.items():
            findings.append(Finding("answers", names[node], "pass", "to every question"))
            findings += judge_node(names[node], facts, driver, gpus=nodes[node]["Resources"].get("GPU", 0.0))
        caches = {node: (root.absolute(), names[node]) for node in answers}  # a node's own folder is another one
        cached, late = ask_nodes(check_cache, caches, timeout_s)
        findings += cached.values()
        findings += [Finding("teacher cache", names[node], "warn", problem, advice) for node, problem in late.items()]
        answering = {node: names[node] for node in answers}
        findings += [*_clocks(answering, timeout_s), *_root(answering, root, timeout_s)]
        return gcs, findings


def _token(gcs: str) -> Iterator[Finding]:
    fix = "start every node with RAY_AUTH_MODE=token and RAY_AUTH_TOKEN_PATH=FILE (docs/administration/security.md)"
    opened = is_open(gcs)
    if opened:
        text = "it runs the code of everybody who reaches it: no token is asked"
        yield Finding("token", "cluster", "fail", text, fix)
    elif opened is None:
        yield Finding("token", "cluster", "warn", "whether a token is asked could not be found out", fix)
    else:
        yield Finding("token", "cluster", "pass", "who has no token is refused")
    path = Path(os.environ.get("RAY_AUTH_TOKEN_PATH") or Path.home() / ".ray" / "auth_token")
    mode = path.stat().st_mode & 0o777 if path.exists() and not os.environ.get("RAY_AUTH_TOKEN") else 0
    if mode & 0o077:
        yield Finding("token", "driver", "fail", f"the token's file has mode {mode:04o}", "chmod 600 on it")


def _clocks(names: Mapping[str, str], timeout_s: float) -> Iterator[Finding]:
    """Compare clocks: a node's is taken to be read in the middle of the shortest of a few round trips."""
    for node, name in names.items():
        trips = []
        for _ in range(_CLOCKS):
            started, at = time.perf_counter(), time.time()
            there, _ = ask_nodes(node_facts.now, {node: ()}, timeout_s)
            half = (time.perf_counter() - started) / 2
            trips += [(half, there[node] - (at + half))] if there else []
        if trips:
            limit, skew = min(trips)
            yield judge_clock(name, skew, limit)


def _root(names: Mapping[str, str], root: Path, timeout_s: float) -> Iterator[Finding]:
    """Let all nodes work in the root's bucket, or share the folder; nothing stays there."""
    made = not root.exists()
    try:
        root.mkdir(parents=True, exist_ok=True)
        problems, where, advice = storage_problems(names, root, bucket_of(root), timeout_s)
    except OSError as error:
        advice = "choose a --root that the driver and all nodes can write"
        yield Finding("root", "driver", "fail", f"{root}: {error.strerror or error}", advice)
        return
    finally:
        if made:
            with contextlib.suppress(OSError):
                root.rmdir()
    for node, name in names.items():
        if node in problems:
            yield Finding("root", name, "fail", f"{where}: {problems[node]}", advice)
        else:
            yield Finding("root", name, "pass", f"{where}: read and written")


def _names(nodes: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    """Name nodes by their hosts, with a part of Ray's name where several are on one host."""
    hosts = {key: str(node.get("NodeManagerHostname") or node["NodeManagerAddress"]) for key, node in nodes.items()}
    alone = [host for host in hosts.values() if list(hosts.values()).count(host) == 1]
    return {key: host if host in alone else f"{host}/{key[:6]}" for key, host in hosts.items()}
