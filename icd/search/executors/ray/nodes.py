"""Asks every node of a cluster something, and before a sweep whether all of them share its folder or bucket."""

import os
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import GetTimeoutError, RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from icd.errors import SetupError
from icd.search.executors.ray.exit_reasons import last_line
from icd.storage.bucket import Bucket, bucket_of, local_root

_ANSWER_S = 120.0  # importing this program may be slow on a cold node
_STORE_S = 10.0  # how long a bucket may be away


def ask_nodes(
    question: Callable[..., Any], words: Mapping[str, Sequence[Any]], timeout_s: float = _ANSWER_S
) -> tuple[dict[str, Any], dict[str, str]]:
    """Let nodes answer a question, all at once, each with words of its own.

    Returns:
        The answers by node; and why a node gave none.
    """
    remote: Any = ray.remote(question)
    asked = {
        node: remote.options(
            num_cpus=0, max_retries=0, scheduling_strategy=NodeAffinitySchedulingStrategy(node, soft=False)
        ).remote(*own)
        for node, own in words.items()
    }
    ray.wait(list(asked.values()), num_returns=len(asked), timeout=timeout_s)
    answers, problems = {}, {}
    for node, answer in asked.items():
        try:
            answers[node] = ray.get(answer, timeout=0)
        except GetTimeoutError:
            problems[node] = f"no answer for {timeout_s:g} s"
        except RayError as error:
            problems[node] = last_line(error)
    return answers, problems


def check_storage(hosts: Mapping[str, str], folder: Path) -> None:
    """Let every node write and read where a sweep is; one that cannot would fail trial after trial.

    Raises:
        SetupError: If a node does not share it, or cannot run this program at all; names every such node.
    """
    problems, where, advice = storage_problems(hosts, folder, bucket_of(folder.parent.parent))
    # One that has gone meanwhile, which Ray learns late, has no problem.
    there = {node["NodeID"] for node in ray.nodes() if node["Alive"]} if problems else set()
    said = "; ".join(f"node {hosts[node]} ({node[:8]}): {problems[node]}" for node in problems if node in there)
    if said:
        raise SetupError(f"not every node can work in {where}: {said}; {advice}, and have the same icd on each")


def storage_problems(
    nodes: Iterable[str], folder: Path, bucket: Bucket | None, timeout_s: float = _ANSWER_S
) -> tuple[dict[str, str], str, str]:
    """Let nodes work in a bucket, or without one read what this machine writes in a folder, and write.

    Returns:
        For each node that cannot why; where that is; and what to do.

    Raises:
        OSError: If this machine cannot write the folder.
    """
    if bucket is None:
        problems = _folder_problems(nodes, folder, timeout_s)
        return problems, str(folder), "choose a --root on storage that all nodes share"
    answers, problems = ask_nodes(_probe_bucket, dict.fromkeys(nodes, (bucket.url,)), timeout_s)
    problems |= {node: problem for node, problem in answers.items() if problem}
    advice = "each needs the credentials and the endpoint in the environment in which its Ray was started"
    return problems, bucket.url, advice


def _folder_problems(nodes: Iterable[str], folder: Path, timeout_s: float) -> dict[str, str]:
    probe, word = folder.absolute() / f".nodes-{os.getpid()}", os.urandom(16).hex()
    probe.mkdir(exist_ok=True)
    try:
        (probe / "driver").write_text(word)
        answers, problems = ask_nodes(_probe_folder, {node: (str(probe), word, node) for node in nodes}, timeout_s)
        problems |= {node: problem for node, problem in answers.items() if problem}
        unseen = [node for node in nodes if node not in problems and not (probe / node).exists()]
        return problems | dict.fromkeys(unseen, "what it writes is not seen here")
    finally:
        shutil.rmtree(probe, ignore_errors=True)


def _probe_bucket(url: str) -> str:
    """Say what this node lacks to work in a bucket."""
    try:
        local_root(url)
        Bucket(url, patience_s=_STORE_S).check()
    except SetupError as error:
        return str(error)
    return ""


def _probe_folder(folder: str, word: str, node: str) -> str:
    """Say what this node lacks to work in the sweep's folder; nothing where it sees what the driver wrote."""
    probe = Path(folder)
    try:
        if (probe / "driver").read_text() != word:
            return "it sees another folder of that name"
        (probe / node).write_text(word)
    except OSError as error:
        return f"{error.strerror or error}"
    return ""
