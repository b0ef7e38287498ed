"""Cores and memory are what control groups leave of them: both versions, nested, with and without limits."""

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

from icd import machine
from icd.doctor import machine as doctor
from icd.machine import free_memory, oom_kills, usable_cpus
from icd.search import planning, session
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


def memory(most: str, used: int, at_hand: int, *, second: bool = True) -> dict[str, str]:
    names = ("memory.max", "memory.current") if second else ("memory.limit_in_bytes", "memory.usage_in_bytes")
    stat = f"anon 7\n{'' if second else 'total_'}inactive_file {at_hand}"
    return {names[0]: most, names[1]: str(used), "memory.stat": stat}


@pytest.mark.parametrize(
    ("files", "free"),
    [
        ({}, 1000),
        ({"": memory("max", 90, 0)}, 1000),
        ({"": memory("500", 90, 0)}, 410),
        ({"": memory("500", 490, 300)}, 310),  # what was read from files gives way
        ({"": memory("500", 90, 0), "jobs": memory("300", 90, 0), "jobs/a": memory("max", 90, 0)}, 210),
        ({"": memory("100", 130, 20)}, 0),
        ({"memory": memory("9223372036854771712", 90, 0, second=False)}, 1000),
        ({"memory/jobs/a": memory("500", 490, 300, second=False)}, 310),
        ({"": {"memory.max": "500"}}, 1000),
    ],
)
def test_memory_is_the_smallest_that_machine_and_control_groups_leave(
    groups: Path, files: dict[str, dict[str, str]], free: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=1000))
    for folder, own in files.items():
        write(groups / folder, own)
    assert free_memory() == free


@pytest.mark.parametrize(
    ("files", "kills"),
    [
        ({}, 0),
        ({"memory.events": "low 0\noom 3\noom_kill 2\noom_group_kill 0"}, 2),
        ({"memory.events": "oom_kill 9", "jobs/a/memory.events": "oom_kill 1"}, 1),  # of others too, and of our own
        ({"memory/memory.oom_control": "oom_kill_disable 0\nunder_oom 0\noom_kill 4"}, 4),
        ({"memory/memory.oom_control": "oom_kill 9", "memory/jobs/a/memory.oom_control": "oom_kill 5"}, 5),
        ({"memory/memory.oom_control": "oom_kill_disable 0\nunder_oom 0"}, 0),  # before Linux 4.13
    ],
)
def test_kills_for_memory_are_those_of_our_own_control_group(groups: Path, files: dict[str, str], kills: int) -> None:
    write(groups, files)
    assert oom_kills() == kills


_IN_GROUP = """
import subprocess, sys
from icd.machine import free_memory, oom_kills
print(free_memory(), oom_kills(), flush=True)
subprocess.run([sys.executable, "-c", "bytearray(1 << 30)"])
print(free_memory(), oom_kills())
"""


def test_a_real_control_group_is_read_as_the_kernel_keeps_it() -> None:
    """Version 1 needs root; on version 2 a group of a user's session does not take its own processes."""
    group, limit = Path("/sys/fs/cgroup/memory/icd-test"), 300 * 10**6
    try:
        group.mkdir()
        (group / "memory.limit_in_bytes").write_text(str(limit))
    except OSError as error:
        pytest.skip(f"no control group can be made: {error}")
    try:
        enter = f"echo $$ > {group}/cgroup.procs && exec {sys.executable} -c '{_IN_GROUP}'"
        done = subprocess.run(["sh", "-c", enter], capture_output=True, text=True, check=True, timeout=120)
    finally:
        group.rmdir()
    (free, before), (_, after) = (map(int, line.split()) for line in done.stdout.splitlines())
    assert 0.3 * limit < free < limit
    assert after == before + 1


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
