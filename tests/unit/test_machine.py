"""Cores are what the control group leaves of them: both versions, nested, with and without limits."""

import os
from collections.abc import Mapping
from pathlib import Path

import pytest

from icd.doctor import machine as doctor
from icd.search import planning, session
from icd.search.core import machine
from icd.search.core.machine import usable_cpus
from icd.search.executors.local.executor import LocalExecutor
from icd.search.planning import make_plan
from icd.search.settings import Settings
from tests.driving import sweep_of


@pytest.fixture
def groups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine of 8 cores with no control groups yet."""
    monkeypatch.setattr(machine, "_CGROUPS", tmp_path / "cgroup")
    monkeypatch.setattr(machine, "_OWN", tmp_path / "own")
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)))
    (tmp_path / "own").write_text("4:memory:/jobs/a\n1:cpu,cpuacct:/jobs/a\n0::/jobs/a\n")
    return tmp_path / "cgroup"


def write(folder: Path, files: Mapping[str, str]) -> None:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text + "\n")


@pytest.mark.parametrize(
    ("files", "cpus"),
    [
        ({}, 8),
        ({"cpu.max": "max 100000"}, 8),
        ({"cpu.max": "100000 100000"}, 1),
        ({"jobs/a/cpu.max": "250000 100000"}, 2),
        ({"cpu.max": "600000 100000", "jobs/cpu.max": "300000 100000", "jobs/a/cpu.max": "max 100000"}, 3),
        ({"cpu.max": "50000 100000"}, 1),
        ({"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, 8),
        ({"cpu/cpu.cfs_quota_us": "400000", "cpu/cpu.cfs_period_us": "100000"}, 4),
        ({"cpu/jobs/a/cpu.cfs_quota_us": "150000", "cpu/jobs/a/cpu.cfs_period_us": "100000"}, 1),
        ({"cpu.max": "nonsense"}, 8),
    ],
)
def test_cores_are_the_smallest_of_affinity_and_quotas(groups: Path, files: dict[str, str], cpus: int) -> None:
    write(groups, files)
    assert usable_cpus() == cpus


def test_the_whole_program_counts_the_same_cores(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for module in (machine, session, planning, doctor):
        monkeypatch.setattr(module, "usable_cpus", lambda: 3)
    monkeypatch.setattr(session, "visible_gpus", list)
    assert doctor._cpu().text.startswith("3 cores")
    sweep, _ = sweep_of()
    executor = session._executor(sweep, tmp_path, Settings(root=tmp_path, executor="process"))
    executor.close()
    assert isinstance(executor, LocalExecutor)
    assert len(executor.workers) == 3
    assert make_plan(sweep, Settings(root=tmp_path), measure=False).concurrent == 3
