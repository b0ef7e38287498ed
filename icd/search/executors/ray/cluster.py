"""What a Ray cluster has for trials: where one fits, how many run at a time, which nodes are taken back."""

import contextlib
import socket
import time
from collections.abc import Callable, Mapping
from typing import Any

import ray

from icd.config.sweep import Resources
from icd.errors import SetupError
from icd.search.core.device_usage import matches
from icd.search.executors.ray.connection import LOCAL, connected
from icd.search.executors.ray.internals import draining_nodes

_TYPE = "ray.io/accelerator-type"  # a label that Ray itself gives to nodes with GPUs
_ANSWER_S = 2.0
_NODES_EVERY_S = 3.0


class Cluster:
    """A connection to Ray, and what a trial takes there.

    Raises:
        SetupError: If it cannot be started or joined, or no trial would ever fit.
    """

    def __init__(self, resources: Resources, address: str, announce: Callable[[str], None]) -> None:
        self._resources, self.cpus = resources, resources.cpus_per_trial
        self._device = resources.device
        self.local = address == LOCAL and not ray.is_initialized()
        self._asked, self._fitting = float("-inf"), 0
        with contextlib.ExitStack() as leaving:
            leaving.enter_context(connected(address))
            total = ray.cluster_resources()
            gpus = total.get("GPU", 0.0)
            self.gpus = float(resources.gpus_of_a_trial(bool(gpus)))
            nodes = sum(bool(node["Alive"]) for node in ray.nodes())
            size = f"{nodes} node{'s' * (nodes != 1)}, {total.get('CPU', 0.0):g} CPUs, {gpus:g} GPUs"
            if not self.hosts():
                device = f" of type {self._device!r}" if self._device else ""
                raise SetupError(
                    f"no trial fits: it needs {self.cpus:g} CPUs and {self.gpus:g} GPUs{device} on one node, "
                    f"but the cluster has {size}; change resources"
                )
            self.labels = self._label_selector()
            self._leaving = leaving.pop_all()
        how = "started on this machine" if self.local else f"joined at {ray.get_runtime_context().gcs_address}"
        announce(f"ray {ray.__version__} {how}: {size}; {self.capacity()} trials at a time")

    def capacity(self, held: int = 0) -> int:
        """How many trials may be given to Ray at a time, less the places that are held.

        That is what fits on the nodes that are there, as they come and go. With ``resources.autoscale`` it is
        ``max_concurrent``: those that wait for a place are what Ray's autoscaler starts nodes for.
        """
        if self._resources.autoscale and self._resources.max_concurrent:
            return max(0, self._resources.max_concurrent - held)
        if time.monotonic() - self._asked > _NODES_EVERY_S:
            leaving = self.leaving()
            staying = [node for node in ray.nodes() if node["Alive"] and node["NodeID"] not in leaving]
            self._fitting, self._asked = sum(self._fits(node) for node in staying), time.monotonic()
        free = max(0, self._fitting - held)
        return min(free, self._resources.max_concurrent or free)

    def leaving(self) -> Mapping[str, float]:
        """Nodes that are taken back, and until when: seconds since 1970; 0 for no limit. They start nothing new."""
        return {node: 0.001 * deadline for node, deadline in draining_nodes().items()}

    def alive(self, node_id: str) -> bool:
        """Whether a node is part of the cluster and answers: Ray itself takes 14 s to call one dead, or a minute."""
        found = next((node for node in ray.nodes() if node["NodeID"] == node_id and node["Alive"]), None)
        if found is None:
            return False
        try:
            where = (str(found["NodeManagerAddress"]), int(found["NodeManagerPort"]))
            socket.create_connection(where, timeout=_ANSWER_S).close()
        except OSError:
            return False
        return True

    def hosts(self) -> dict[str, str]:
        """Give the nodes that may run a trial: Ray's name of each, and its host's."""
        return {
            node["NodeID"]: str(node.get("NodeManagerHostname") or node.get("NodeManagerAddress"))
            for node in ray.nodes()
            if node["Alive"] and self._fits(node)
        }

    def close(self) -> None:
        """Leave the cluster; a Ray of our own ends with that."""
        self._leaving.close()

    def _label_selector(self) -> dict[str, str]:
        """Which nodes a trial may come to, as Ray says it; empty for any."""
        if self._device is None or not self.gpus:  # where a node has no GPU, its worker says what it is
            return {}
        types = {_type_of(node) for node in ray.nodes() if node["Alive"]}
        return {_TYPE: f"in({', '.join(sorted(name for name in types if name and matches(self._device, name)))})"}

    def _fits(self, node: Mapping[str, Any]) -> int:
        """How many processes fit on a node at all."""
        if self._device is not None and self.gpus and not matches(self._device, _type_of(node)):
            return 0
        have = node["Resources"]
        return fitting(have.get("CPU", 0), have.get("GPU", 0), self.cpus, self.gpus)


def _type_of(node: Mapping[str, Any]) -> str:
    """What Ray calls a node's GPUs, such as A100; empty where it has none that Ray knows."""
    return str(node.get("Labels", {}).get(_TYPE, ""))


def fitting(cpus: float, gpus: float, cpus_per_trial: float, gpus_per_trial: float) -> int:
    """How many trials fit on one node; a trial's share of a GPU is on one GPU."""
    by_cpus = int(cpus / cpus_per_trial + 1e-9)
    if gpus_per_trial == 0:
        return by_cpus
    return min(by_cpus, int(gpus) * int(1 / gpus_per_trial + 1e-9))
