"""Ray's workers see the GPUs that they were given."""

import os
from pathlib import Path
from typing import Any

import pytest

from icd.config.sweep import Resources
from icd.search.core.attempts import Attempt, AttemptResult
from icd.search.executors.ray.executor import RayExecutor
from tests.integration.ray_fakes import FakePolicy


def tell_what_is_seen(attempt: Attempt, send: Any, *, progress: Any) -> AttemptResult:
    seen = {"visible": os.environ.get("CUDA_VISIBLE_DEVICES")}
    return AttemptResult(number=attempt.number, attempt=attempt.attempt, kind="complete", result=seen)


def test_workers_of_ray_see_the_gpus_that_they_were_given_and_no_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also those of a divided GPU, by their names; and none where a trial asks for none, though the driver sees one."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "MIG-0a0b")
    seen = {}
    executor = RayExecutor(Resources(max_concurrent=1), tmp_path, announce=lambda text: None, attempt=tell_what_is_seen)
    try:
        assert executor.cluster.gpus == 1
        for gpus in (1.0, 0.0):
            executor.cluster.gpus = gpus
            policy = FakePolicy(tmp_path, [{}])
            executor.run(policy, lambda: None)
            (end,) = policy.ends
            seen[gpus] = end.result["visible"]
            place = end.location
            assert place is not None
            assert place.gpu == seen[gpus]
    finally:
        executor.close()
    assert seen == {1.0: "MIG-0a0b", 0.0: ""}
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "MIG-0a0b"
