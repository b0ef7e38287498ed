"""Of what a worker died, from Ray's own words, and how long nothing begins after one was killed for memory."""

import time
from types import SimpleNamespace
from typing import Any

import pytest

from icd.search.core.attempts import Location
from icd.search.executors.ray import exit_reasons as ray_deaths
from icd.search.executors.ray.exit_reasons import ExitClassifier
from icd.search.executors.ray.internals import RAISED

# As Ray 2.60 says it.
MONITOR = """Ray raised OutOfMemoryError: 2 worker(s) were killed due to the node running low on memory. Memory on the \
node (IP: 192.0.2.2, ID: 78fd) was 6.22GB used / 23.54GB limit (0.264363)
OOM kill reason: Memory usage 6600000000B exceeded threshold of 6400000000B (25.5% of 25276510208B limit)
Selected to kill: (Actor(2d): job ID=01, lease ID=01, task name=A.train, pid=13702, actual memory used=1.50GB, worker \
ID=05), (Actor(3d): job ID=01, lease ID=02, task name=A.train, pid=13703, actual memory used=0.04GB, worker ID=06)"""


def deaths(*, local: bool = True, alive: bool = True) -> ExitClassifier:
    cluster: Any = SimpleNamespace(local=local, alive=lambda node: alive)
    return ExitClassifier(cluster)


@pytest.mark.parametrize(
    ("text", "kind", "reason"),
    [
        (MONITOR, "memory", "killed for memory by Ray on h: it had 1.50 GB, 6.60 GB were in use where 6.40 GB may be"),
        (f"{RAISED}ObjectStoreFullError: full\nThe node", "killed", "Ray raised ObjectStoreFullError: full"),
        ("ray::trial.train() (pid=1)\nZeroDivisionError: x", "error", "ZeroDivisionError: x"),
        (
            "The actor died unexpectedly.\nThe process receives a SIGTERM.",
            "preempted",
            "SIGTERM: the process ended at once",
        ),
        ("The actor died unexpectedly.", "killed", "process killed (its connection closed)"),
    ],
)
def test_the_cause_is_read_from_rays_words(text: str, kind: str, reason: str) -> None:
    assert deaths().classify_exit(Location(host="h", node="n1"), 13702, text) == (kind, reason)


def test_whatever_ray_raises_on_a_lost_node_is_the_nodes(monkeypatch: pytest.MonkeyPatch) -> None:
    lost = deaths(alive=False).classify_exit(Location(host="h", node="node1234"), 1, f"{RAISED}WorkerCrashedError: x")
    assert lost == ("lost", "node h (node1234) lost")


@pytest.mark.parametrize("local", [True, False])
def test_nothing_begins_for_a_while_after_a_process_was_killed_for_memory(
    monkeypatch: pytest.MonkeyPatch, local: bool
) -> None:
    clock = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    died = deaths(local=local)
    assert not died.resting
    died.classify_exit(Location(host="h", node="n1"), 13702, MONITOR)
    assert died.resting
    clock[0] += ray_deaths._REST_S
    assert not died.resting
