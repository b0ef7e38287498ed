"""Which GPUs there are, and that one which torch cannot use is an error with a reason: never the CPU in its place."""

import platform
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from icd.cli.options import device_of
from icd.errors import SetupError
from icd.teacher import device_cache
from icd.worker import gpus
from icd.worker.gpus import limit_memory, listed_gpus, named_gpus, training_device, visible_gpus

WHOLE = "GPU-5c1b7f0e-0000-1111-2222-333344445555"
MIG = "MIG-0a0b0c0d-aaaa-bbbb-cccc-ddddeeeeffff"
LISTED = f"GPU 0: NVIDIA A100-SXM4-40GB (UUID: {WHOLE})\n"
DIVIDED = LISTED + f"  MIG 1g.5gb      Device  0: (UUID: {MIG})\n  MIG 2g.10gb     Device  1: (UUID: MIG-1)\n"


@pytest.mark.parametrize(
    ("said", "names"),
    [
        ("", []),
        ("1", ["1"]),
        ("2, GPU-ab", ["2", "GPU-ab"]),
        ("-1", []),
        ("none", []),
        ("NoDevFiles", []),
        ("0,-1,2", ["0"]),
        ("MIG-GPU-ab/1/0", ["MIG-GPU-ab/1/0"]),
    ],
)
def test_the_environment_names_gpus_as_cuda_reads_it(
    monkeypatch: pytest.MonkeyPatch, said: str, names: list[str]
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", said)
    assert named_gpus(said) == visible_gpus() == names


def test_instances_of_a_divided_gpu_stand_for_it() -> None:
    assert listed_gpus(LISTED) == [WHOLE]
    assert listed_gpus(DIVIDED + LISTED) == [MIG, "MIG-1", WHOLE]
    assert listed_gpus("No devices found.\n") == []


@pytest.mark.parametrize("smi", ["answers", "fails", "missing", "hangs"])
def test_without_the_environment_the_driver_is_asked_and_else_proc(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, smi: str
) -> None:
    def run(words: list[str], **_: Any) -> Any:
        if smi == "missing":
            raise FileNotFoundError
        if smi == "hangs":
            raise subprocess.TimeoutExpired(words, 20)
        return subprocess.CompletedProcess(words, int(smi == "fails"), DIVIDED, "")

    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(subprocess, "run", run)
    monkeypatch.setattr(gpus, "_PROC", tmp_path)
    for name in ("0000:01:00.0", "0000:02:00.0"):
        (tmp_path / name).mkdir()
    assert visible_gpus() == ([MIG, "MIG-1"] if smi == "answers" else ["0", "1"])


@pytest.fixture
def no_cuda(monkeypatch: pytest.MonkeyPatch) -> Callable[[str | None, str], None]:
    """Let torch be a build for a CUDA, or for none, that says so when it is begun."""

    def set_up(version: str | None, said: str = "") -> None:
        def init() -> None:
            raise RuntimeError(said)

        monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
        monkeypatch.setattr(torch.cuda, "init", init)
        monkeypatch.setattr(torch.version, "cuda", version)

    return set_up


@pytest.mark.parametrize(
    ("version", "said", "release", "reason"),
    [
        (None, "", "6.1", "is a build for CPUs alone: install its build for CUDA"),
        ("13.0", "The NVIDIA driver on your system is too old (found version 11040)", "6.1", "update the driver"),
        ("13.0", "Found no NVIDIA driver on your system", "5.15-microsoft-standard-WSL2", "that of Windows"),
        ("13.0", "Found no NVIDIA driver on your system", "6.1", "install NVIDIA's driver"),
        ("13.0", "No CUDA GPUs are available", "6.1", "of MIG the instances"),
    ],
)
def test_a_gpu_that_was_asked_for_is_never_replaced_by_the_cpu(
    monkeypatch: pytest.MonkeyPatch, no_cuda: Any, version: str | None, said: str, release: str, reason: str
) -> None:
    no_cuda(version, said)
    monkeypatch.setattr(platform, "release", lambda: release)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    for ask in (training_device, lambda: device_of("auto", None), lambda: device_of("cuda", None)):
        with pytest.raises(SetupError) as caught:
            ask()
        assert reason in str(caught.value)
        assert said in str(caught.value)
        assert "resources.gpus_per_trial: 0" in str(caught.value)


def test_the_cpu_is_taken_where_no_gpu_is_asked_for_and_that_is_said_where_there_is_one(
    monkeypatch: pytest.MonkeyPatch, no_cuda: Any, caplog: pytest.LogCaptureFixture
) -> None:
    no_cuda(None)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert device_of("auto", None).type == "cpu"
    assert not caplog.text
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    monkeypatch.setattr("icd.worker.gpus.visible_gpus", lambda: ["0"])
    assert device_of("auto", None).type == "cpu"
    assert "training on the CPU: 1 GPUs are here, but torch" in caplog.text


def test_trials_that_share_a_gpu_share_its_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    shares = [1.0]
    monkeypatch.setattr(torch.cuda, "set_per_process_memory_fraction", shares.append)
    limit_memory(torch.device("cpu"), 0.5)
    assert shares == [1.0]
    limit_memory(torch.device("cuda"), 0.25)
    assert shares == [1.0, 0.25]
    gb = 10**9
    monkeypatch.setattr(torch.cuda, "get_per_process_memory_fraction", lambda: shares[-1])
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda device: 2 * gb)
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda device: 3 * gb)
    for free, room in ((70, 20 - 2 - 4), (1, 1 + 3 - 2 - 4)):  # a fifth of the share is left for the trial
        monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device, free=free: (free * gb, 80 * gb))
        assert device_cache._room(torch.device("cuda")) == room * gb
