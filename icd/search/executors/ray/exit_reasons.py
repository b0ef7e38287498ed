"""Why a worker is gone, read from what Ray says of it, since Tune keeps no more than that text.

Where Ray's memory monitor has killed it, nothing begins for a while: the monitor looks several times a second, and
would spend all retries of a trial in one.
"""

import re
import time

from icd.machine import oom_kills
from icd.search.core.attempts import Location, ResultKind
from icd.search.executors.ray.cluster import Cluster
from icd.search.executors.ray.internals import RAISED

_TICK_S = 0.2
_NODE_LOSS_S = 2.0  # how long a lost node may look alive
_TAKEN_BACK = ("node was preempted", "node was terminated expectedly")  # as Ray says of a node
_TOLD_TO_GO = "The process receives a SIGTERM"  # as Ray says of a worker that could not heed it
_OUT_OF_MEMORY = ("low on memory", "memory usage threshold", "OutOfMemoryError")
_USAGE = re.compile(r"Memory usage (\d+)B exceeded threshold of (\d+)B")
_ITS_OWN = r"pid={pid}, actual memory used=([\d.]+)GB"
_REST_S = 20.0  # nothing begins for so long after a process was killed for memory


class ExitClassifier:
    """Finds causes; remembers how many processes the kernel has killed for memory."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster, self._oom_seen = cluster, oom_kills()
        self._killed_at = float("-inf")

    @property
    def resting(self) -> bool:
        """Whether nothing is to begin now, for a machine is short of memory."""
        return time.monotonic() - self._killed_at < _REST_S

    def classify_exit(self, location: Location | None, pid: int, text: str) -> tuple[ResultKind, str]:
        """Say of what a worker died.

        Args:
            location: Of the process; None where it had not begun.
            pid: Of the process; 0 likewise.
            text: What Ray says.

        Returns:
            The kind, for the policy, and the reason, for people.
        """
        node, host = (location.node, location.host) if location is not None else ("", "")
        if any(words in text for words in _TAKEN_BACK):
            return "preempted", f"node {host} ({node[:8]}) was taken back"
        if _TOLD_TO_GO in text:
            return "preempted", "SIGTERM: the process ended at once"
        if any(words in text for words in _OUT_OF_MEMORY):
            self._killed_at = time.monotonic()
            return "memory", f"killed for memory by Ray on {host or 'a node'}{_short_of_memory(pid, text)}"
        if not text.startswith(("The actor ", RAISED)) or "raised in its creation task" in text:
            return "error", last_line(text)  # Tune itself failed there, for instance without the shared folder
        if node and self._lost(node, text):
            return "lost", f"node {host} ({node[:8]}) lost"
        if text.startswith(RAISED):
            return "killed", " ".join(text.partition("\n")[0].split())[:400]
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


def _short_of_memory(pid: int, text: str) -> str:
    """Say how much there was and how much of it the process had, as far as Ray says it."""
    usage, its_own = _USAGE.search(text), re.search(_ITS_OWN.format(pid=pid or r"\d+"), text)
    if usage is None:
        return ""
    own = f"it had {its_own[1]} GB, " if its_own else ""
    return f": {own}{int(usage[1]) / 1e9:.2f} GB were in use where {int(usage[2]) / 1e9:.2f} GB may be"


def _how_it_died(text: str) -> str:
    """Ray does not know the signal; it says how the connection ended."""
    for line in text.splitlines():
        if "exit detail" in line or "exit code" in line:
            return line.split(".")[0].strip()[:200]
    return "its connection closed"
