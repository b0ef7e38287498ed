"""A GPU that is named but not there: a sweep says why and ends."""

from pathlib import Path

import pytest

from tests.command import Command, one_line


def test_a_sweep_never_takes_the_cpu_for_a_gpu_that_was_asked_for(
    command: Command, icd_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "7")
    file = Path("search_spaces/quickstart.yaml")
    said = command("sweep", file, "--executor", "process", "--set", "resources.gpus_per_trial=1")
    line = one_line(said, 3, "SETUP")
    assert "a GPU was asked for (CUDA_VISIBLE_DEVICES=7), but torch" in line
    assert "resources.gpus_per_trial: 0" in line
