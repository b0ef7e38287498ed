"""Why a worker is gone, read from what Ray says of it, since Tune keeps no more than that text."""

import time

from icd.search.ray_cluster import Cluster
from icd.search.slot import oom_kills
from icd.search.task import OutcomeKind

_TICK_S = 0.2
_NODE_LOSS_S = 2.0  # how long a lost node may look alive
_TAKEN_BACK = ("node was preempted", "node was terminated expectedly")  # as Ray says of a node
_TOLD_TO_GO = "The process receives a SIGTERM"  # as Ray says of a worker that could not heed it
_OUT_OF_MEMORY = ("low on memory", "memory usage threshold", "OutOfMemoryError")


class Deaths:
    """Finds causes; remembers how many processes the kernel has killed for memory."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster, self._oom_seen = cluster, oom_kills()

    def cause(self, node: str, host: str, text: str) -> tuple[OutcomeKind, str]:
        """Say of what a worker died.

        Args:
            node: Ray's name of the node it ran on; empty where it had not begun.
            host: Of the process; empty likewise.
            text: What Ray says.

        Returns:
            The kind, for the policy, and the reason, for people.
        """
        if any(words in text for words in _TAKEN_BACK):
            return "preempted", f"node {host} ({node[:8]}) was taken back"
        if _TOLD_TO_GO in text:
            return "preempted", "SIGTERM: the process ended at once"
        if any(words in text for words in _OUT_OF_MEMORY):
            return "memory", f"killed for memory by Ray on {host or 'a node'}"
        if not text.startswith("The actor ") or "raised in its creation task" in text:
            return "error", last_line(text)  # Tune itself failed there, for instance without the shared folder
        if node and self._lost(node, text):
            return "lost", f"node {host} ({node[:8]}) lost"
        seen, self._oom_seen = self._oom_seen, oom_kills()
        if self._cluster.local and self._oom_seen > seen:
            return "memory", "process killed for memory by the kernel"
        return "killed", f"process killed ({_how_it_died(text)})"

    def _lost(self, node: str, text: str) -> bool:
        """Whether a node is gone; that of a worker may be heard a moment before."""
        if "node has died" in text or "node was terminated" in text or "node is dead" in text:
            return True
        deadline = time.monotonic() + (_NODE_LOSS_S if "unavailable" in text and not self._cluster.local else 0.0)
        while self._cluster.alive(node):
            if time.monotonic() >= deadline:
                return False
            time.sleep(_TICK_S)
        return True


def last_line(error: object) -> str:
    """The line of Ray's text that names the exception below it."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1][:400] if lines else "Ray gave no reason"


def _how_it_died(text: str) -> str:
    """Ray does not know the signal; it says how the connection ended."""
    for line in text.splitlines():
        if "exit detail" in line or "exit code" in line:
            return line.split(".")[0].strip()[:200]
    return "its connection closed"
