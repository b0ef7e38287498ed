"""A node dies under a real sweep: its trials go on elsewhere from their checkpoints, and nothing is lost or doubled."""

import json
import time
from pathlib import Path
from typing import Any

import pytest

from icd.config.read_sweep import read_sweep
from icd.config.yaml import Document
from icd.search import run_sweep
from icd.search.core.attempts import trial_folder
from icd.search.settings import Settings
from tests.crash.harness import table, tracking_faults
from tests.documents import document_of
from tests.integration.ray_nodes import Node, cluster, secret
from tests.integration.ray_sweeps import document

EPOCHS = 300  # long enough that a node whose workers come first is not done before the other has begun
TRIALS = 4


def rows(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def newest_checkpoint(folder: Path) -> int:
    return max(int(path.stem.rpartition("-")[2]) for path in (folder / "checkpoints").glob("epoch-*.ckpt"))


class Killer:
    """Kills a node when trials run on both, each past its third epoch and far from its last."""

    def __init__(self, node: Node, sweep: Path) -> None:
        self.node, self.sweep = node, sweep
        self.moment = 0.0
        self.lost: dict[int, int] = {}  # the trials that ran there, and the newest checkpoint of each

    def watch(self, driver: Any, executor: Any) -> None:
        under_way = list(executor.tracker.running.values()) if executor.tracker is not None else []
        begun = {number for number, running in driver.running.items() if 3 < running.epoch < EPOCHS - 20}
        if self.moment or len(begun) < 2:
            return
        pids = set(self.node.pids())
        there = [each.attempt.number for each in under_way if each.pid in pids]
        if not there or len(there) == len(under_way):
            return
        self.node.kill()
        self.moment = time.time()  # nothing goes on before this returns
        self.lost = {number: newest_checkpoint(trial_folder(self.sweep, number)) for number in there}


def test_trials_of_a_lost_node_go_on_from_their_checkpoints(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("icd.search.session._FLUSH_S", 300.0)
    said: list[str] = []
    plain = document_of(document(tmp_path, epochs=EPOCHS, trials=TRIALS))
    with secret() as token, cluster(token, None) as (address, nodes):
        killer = Killer(nodes[1], tmp_path / "sweeps" / "crash")
        settings = Settings(root=tmp_path, executor="ray", address=address, announce=said.append, watch=killer.watch)
        result = run_sweep.run(read_sweep(Document(plain, "sweep.yaml")), plain, settings)
    assert any("2 nodes, 2 CPUs, 0 GPUs; 2 trials at a time" in line for line in said), said
    assert len(killer.lost) == 1, said
    assert [record.state for record in result.records] == ["complete"] * TRIALS, said
    assert result.pending == 0
    for record in result.records:
        folder = trial_folder(result.folder, record.number)
        kept = killer.lost.get(record.number)
        assert record.attempts == (1 if kept is None else 2)
        assert record.attributes.get("faults", {}) == ({} if kept is None else {"lost": 1}), said
        assert sorted(record.curve) == list(range(1, EPOCHS + 1))
        assert [row["epoch"] for row in rows(folder)] == list(range(1, EPOCHS + 1))
        if kept is not None:  # no epoch with a checkpoint was trained again
            assert 3 < kept < EPOCHS
            assert all((row["time"] < killer.moment) == (row["epoch"] <= kept) for row in rows(folder))
            assert f"retry 1/20 from epoch {kept}" in "\n".join(said)
    assert tracking_faults(tmp_path, table(tmp_path)) == []
