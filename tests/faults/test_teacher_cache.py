"""A teacher cache whose writer is killed."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from icd.data.split import Split
from icd.teacher.cache_block import Block, block_folder
from icd.teacher.cache_plan import plan_cache
from tests.integration.test_teacher_cache import config_of
from tests.tiny import images

EPOCHS = 12
WORKER = """
import sys, time
sys.path.insert(0, sys.argv[1])
from pathlib import Path
from tests.faults.test_teacher_cache import EPOCHS
from tests.integration.test_teacher_cache import *
split = images()
teacher = build_model("resnet14", num_classes=10, stem="conv3x3", seed=7).eval().requires_grad_(False)
config = config_of(epochs=EPOCHS)
cache = cache_of(config, split, teacher, Path(sys.argv[2]))
fill = cache.fill


def stand_still(*given):
    if len(sys.argv) > 3 and cache.computed > 40:
        time.sleep(300)  # to be killed
    fill(*given)


cache.fill = stand_still
network, rows = trained(config, split, teacher, cache)
print(json.dumps([cache.computed, weights_digest(network.state_dict())]))
"""


@pytest.fixture(scope="module")
def split() -> Split:
    return images()


def test_a_kill_while_filling_leaves_a_valid_cache(split: Split, tmp_path: Path) -> None:
    here = str(Path(__file__).parents[2])
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    config = config_of(epochs=EPOCHS)
    (spec,) = plan_cache([config], split, "stream", folder=tmp_path).specs
    worker = subprocess.Popen(
        [sys.executable, "-c", WORKER, here, str(tmp_path), "stand still"], stdout=subprocess.DEVNULL, env=environment
    )
    checks = block_folder(tmp_path, spec) / "checks.bin"
    while worker.poll() is None and not (checks.exists() and np.count_nonzero(np.fromfile(checks, np.uint32)) > 40):
        time.sleep(0.01)
    worker.kill()
    worker.wait()
    block = Block(block_folder(tmp_path, spec), spec)
    there = block.filled()
    assert 40 < there < spec.num_slots
    assert block.damaged() == 0
    block.close()
    done = subprocess.run(
        [sys.executable, "-c", WORKER, here, str(tmp_path)], capture_output=True, text=True, env=environment, check=True
    )
    computed, digest = json.loads(done.stdout)
    assert computed == spec.num_slots - there
    fresh = subprocess.run(
        [sys.executable, "-c", WORKER, here, str(tmp_path / "fresh")],
        capture_output=True,
        text=True,
        env=environment,
        check=True,
    )
    assert json.loads(fresh.stdout) == [spec.num_slots, digest]
