"""Before a sweep on a cluster: does every node share its folder? A node that does not would fail trial after trial."""

import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import GetTimeoutError, RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from icd.errors import SetupError
from icd.search.executors.ray.exit_reasons import last_line
from icd.storage.bucket import Bucket, local_root

_PROBE_S = 120.0  # importing this program may be slow on a cold node
_STORE_S = 10.0  # how long a bucket may be away


def check_folder(hosts: Mapping[str, str], folder: Path) -> None:
    """Let every node write and read in a folder.

    Args:
        hosts: For Ray's name of each node its host's.
        folder: Which all nodes should share.

    Raises:
        SetupError: If a node does not see it, or cannot run this program at all; names every such node.
    """
    probe, word = folder.absolute() / f".nodes-{os.getpid()}", os.urandom(16).hex()
    probe.mkdir(exist_ok=True)
    try:
        (probe / "driver").write_text(word)
        problems = _ask(probe_folder, {node: (str(probe), word, node) for node in hosts})
        unseen = [node for node in hosts if node not in problems and not (probe / node).exists()]
        problems |= dict.fromkeys(unseen, "what it writes is not seen here")
    finally:
        shutil.rmtree(probe, ignore_errors=True)
    if said := _listed(problems, hosts):
        raise SetupError(
            f"not every node can work in {folder}: {said}; choose a --root on storage that all nodes share, and have "
            "the same icd on each"
        )


def check_bucket(hosts: Mapping[str, str], url: str) -> None:
    """Let every node write and read in a bucket.

    Args:
        hosts: For Ray's name of each node its host's.
        url: Of the bucket.

    Raises:
        SetupError: If a node cannot, or cannot run this program at all; names every such node.
    """
    if said := _listed(_ask(probe_bucket, dict.fromkeys(hosts, (url,))), hosts):
        raise SetupError(
            f"not every node can work in {url}: {said}; each needs the credentials and the endpoint in the environment "
            "in which its Ray was started, and the same icd"
        )


def _listed(problems: Mapping[str, str], hosts: Mapping[str, str]) -> str:
    """Write the problems of nodes in a line; one that has gone meanwhile, which Ray learns late, has none."""
    there = {node["NodeID"] for node in ray.nodes() if node["Alive"]} if problems else set()
    return "; ".join(f"node {hosts[node]} ({node[:8]}): {problems[node]}" for node in problems if node in there)


def _ask(probe: Callable[..., str], words: Mapping[str, Sequence[str]]) -> dict[str, str]:
    """Let every node probe, with words of its own; say for every node with a problem what it is."""
    remote: Any = ray.remote(probe)
    asked = {
        node: remote.options(
            num_cpus=0, max_retries=0, scheduling_strategy=NodeAffinitySchedulingStrategy(node, soft=False)
        ).remote(*own)
        for node, own in words.items()
    }
    ray.wait(list(asked.values()), num_returns=len(asked), timeout=_PROBE_S)
    problems = {}
    for node, answer in asked.items():
        try:
            problem = ray.get(answer, timeout=0)
        except GetTimeoutError:
            problem = f"no answer for {_PROBE_S:.0f} s"
        except RayError as error:
            problem = last_line(error)
        if problem:
            problems[node] = problem
    return problems


def probe_bucket(url: str) -> str:
    """Say what this node lacks to work in a bucket."""
    try:
        local_root(url)
        Bucket(url, patience_s=_STORE_S).check()
    except SetupError as error:
        return str(error)
    return ""


def probe_folder(folder: str, word: str, node: str) -> str:
    """Say what this node lacks to work in the sweep's folder; nothing where it sees what the driver wrote."""
    probe = Path(folder)
    try:
        if (probe / "driver").read_text() != word:
            return "it sees another folder of that name"
        (probe / node).write_text(word)
    except OSError as error:
        return f"{error.strerror or error}"
    return ""
